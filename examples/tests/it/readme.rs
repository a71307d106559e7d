//! The README shows the quickstart as it is compiled and run here.

const README: &str = include_str!("../../../README.md");
const QUICKSTART: &str = include_str!("../../src/bin/quickstart.rs");

/// The contents of the fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = README.split(fence.as_str()).skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0).collect()
}

#[test]
fn the_readme_shows_the_quickstart() {
    let (_, shown) = QUICKSTART.split_once("\n\n").unwrap();
    let is_shown = blocks("rust").contains(&shown);
    assert!(is_shown, "copy examples/src/bin/quickstart.rs from its imports on into README.md");
}

#[test]
fn the_readme_names_every_example() {
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin");
    for entry in std::fs::read_dir(programs).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(README.contains(&format!("`{name}`")), "README.md does not name {name}");
    }
}

#[test]
fn every_link_of_the_readme_leads_to_a_file() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let links = README.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = links.map(|(link, _)| link).filter(|link| !link.contains("://"));
    let mut count = 0;
    for file in files {
        let path = std::path::Path::new(root).join(file);
        assert!(path.exists(), "README.md links to {file}, which does not exist");
        count += 1;
    }
    assert!(count > 0, "README.md links to no file");
}
