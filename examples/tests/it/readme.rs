//! The README shows the quickstart as it is compiled and run here, and what documents link to
//! exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

const QUICKSTART: &str = include_str!("../../src/bin/quickstart.rs");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_readme_shows_the_quickstart() {
    let readme = readme();
    let (_header, program) = QUICKSTART.split_once("\n\n").unwrap();
    let blocks = readme.split("```rust\n").skip(1);
    let mut shown = blocks.map(|block| block.split_once("```").unwrap().0);
    let fix = "copy examples/src/bin/quickstart.rs, from its imports on, into README.md";
    assert!(shown.any(|block| block == program), "{fix}");
}

#[test]
fn the_readme_names_every_example() {
    let readme = readme();
    for entry in fs::read_dir(root().join("examples/src/bin")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("[`{name}`]")), "README.md does not name {name}");
    }
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    let root = root();
    let mut documents = vec![root.join("README.md")];
    for entry in walkdir::WalkDir::new(root.join("docs")) {
        let path = entry.unwrap().into_path();
        documents.extend(path.extension().is_some_and(|it| it == "md").then_some(path));
    }
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains("://")) {
            let file = link.split('#').next().unwrap_or_default();
            let path = document.with_file_name(file);
            assert!(path.exists(), "{} links to {link}", document.display());
        }
    }
    assert!(documents.len() > 5, "only {documents:?}");
}
