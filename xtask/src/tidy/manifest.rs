//! Reads as much of a `Cargo.toml` as the rules need: its tables, keys and dependencies.

/// One `key = value` of a manifest, with the table it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Counted from 1.
    pub(super) line: usize,
    /// The table's name; empty before the first one.
    pub(super) table: String,
    pub(super) key: String,
    pub(super) value: String,
}

/// A dependency that a manifest declares, with its keys in the order they are written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) is_dev: bool,
    keys: Vec<(String, String)>,
}

impl Dependency {
    /// The value of one key, such as `workspace` or `path`; a bare text is the `version`.
    pub(super) fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All entries, top to bottom; a value over several lines is joined into one.
pub(super) fn entries(content: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut table = String::new();
    let mut lines = (1..).zip(content.lines().map(without_comment));
    while let Some((line, text)) = lines.next() {
        if let Some(name) = text.trim().strip_prefix('[') {
            table = name.trim_matches(['[', ']', ' ']).to_owned();
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            continue;
        };
        let mut value = value.trim().to_owned();
        while depth(&value) > 0 {
            let Some((_, more)) = lines.next() else { break };
            value.push(' ');
            value.push_str(more.trim());
        }
        entries.push(Entry { line, table: table.clone(), key: key.trim().to_owned(), value });
    }
    entries
}

/// All dependencies of a package, of whatever kind and target.
pub(super) fn dependencies(entries: &[Entry]) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    for entry in entries {
        let Some((kind, path)) = dependency_path(entry) else {
            continue;
        };
        let is_dev = kind == "dev-dependencies";
        let (name, key) = path.split_once('.').unwrap_or((&path, ""));
        let keys = match key {
            "" if entry.value.starts_with('{') => inline_table(&entry.value),
            "" => vec![("version".to_owned(), entry.value.clone())],
            key => vec![(key.to_owned(), entry.value.clone())],
        };
        match found.iter_mut().find(|known| known.name == name && known.is_dev == is_dev) {
            Some(known) => known.keys.extend(keys),
            None => {
                let name = name.to_owned();
                found.push(Dependency { line: entry.line, name, is_dev, keys });
            }
        }
    }
    found
}

/// Splits an entry of a dependency table into the kind of table and `name` or `name.key`.
fn dependency_path(entry: &Entry) -> Option<(&'static str, String)> {
    const KINDS: [&str; 3] = ["dev-dependencies", "build-dependencies", "dependencies"];
    if entry.table.starts_with("workspace") {
        return None;
    }
    KINDS.into_iter().find_map(|kind| {
        let (before, after) = entry.table.rsplit_once(kind)?;
        if !(before.is_empty() || before.ends_with('.')) {
            return None;
        }
        match after.strip_prefix('.') {
            Some(name) => Some((kind, format!("{name}.{}", entry.key))),
            None if after.is_empty() => Some((kind, entry.key.clone())),
            None => None,
        }
    })
}

/// The keys of `{ workspace = true, features = ["a", "b"] }`.
fn inline_table(text: &str) -> Vec<(String, String)> {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let mut keys = Vec::new();
    let mut start = 0;
    for (at, _) in inner.match_indices(',').chain([(inner.len(), "")]) {
        if depth(&inner[start..at]) == 0 {
            let pair = inner[start..at].split_once('=');
            keys.extend(pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())));
            start = std::cmp::min(at + 1, inner.len());
        }
    }
    keys
}

/// How many brackets are still open at the end, those between quotes left aside.
fn depth(text: &str) -> usize {
    let mut depth = 0_usize;
    for (_, c) in outside_quotes(text) {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

fn without_comment(line: &str) -> &str {
    let hash = outside_quotes(line).find(|&(_, c)| c == '#');
    hash.map_or(line, |(at, _)| &line[..at])
}

/// The characters that are not between quotes, with their places.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |&(_, c)| match quote {
        Some(open) => {
            quote = (c != open).then_some(open);
            false
        }
        None if c == '"' || c == '\'' => {
            quote = Some(c);
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[package]
name = "a" # The name.
version.workspace = true

[dependencies]
serde.workspace = true
clap = { workspace = true, features = [
    "derive", # Commands.
    "env",
] }
libc = "0.2"

[target.'cfg(unix)'.dev-dependencies]
b = { path = "../b#c" }

[build-dependencies.cc]
version = "1"

[workspace.dependencies]
d = "1"
"#;

    #[test]
    fn entries_know_their_table_and_line() {
        let entries = entries(MANIFEST);
        let first = &entries[0];
        assert_eq!((first.line, first.table.as_str()), (3, "package"));
        assert_eq!((first.key.as_str(), first.value.as_str()), ("name", "\"a\""));
        assert_eq!(entries[3].value, r#"{ workspace = true, features = [ "derive", "env", ] }"#);
    }

    #[test]
    fn dependencies_are_read_in_every_notation() {
        let dependencies = dependencies(&entries(MANIFEST));
        let names: Vec<_> = dependencies.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["serde", "clap", "libc", "b", "cc"]);
        let [serde, clap, libc, b, cc] = &dependencies[..] else { panic!("{dependencies:?}") };
        assert_eq!(serde.key("workspace"), Some("true"));
        assert_eq!(clap.key("workspace"), Some("true"));
        assert_eq!(clap.key("features"), Some(r#"[ "derive", "env", ]"#));
        assert_eq!(libc.key("version"), Some("\"0.2\""));
        assert_eq!((b.is_dev, b.key("path")), (true, Some("\"../b#c\"")));
        assert_eq!((cc.is_dev, cc.key("version")), (false, Some("\"1\"")));
    }
}
