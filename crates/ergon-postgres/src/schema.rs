//! The name of the schema that the tables live in, and how statements come to name it.

use std::sync::Arc;

/// The schema of a store that chooses none; statements are written with it.
pub(crate) const SCHEMA_DEFAULT: &str = "ergon";

/// What stands for the schema in every statement and migration.
const PLACEHOLDER: &str = "ergon.";

/// Longest name, in bytes. Postgres cuts identifiers at 63; the rest is room for a suffix.
const NAME_BYTES_MAX: usize = 48;

/// A valid name of a schema. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema(Arc<str>);

impl Schema {
    /// Takes a name of 1 to 48 of `a-z`, `0-9` and `_` that does not begin with a digit.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
        let is_valid = name.len() <= NAME_BYTES_MAX
            && name.starts_with(is_letter)
            && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
        is_valid.then(|| Self(name.into()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Puts the name where a statement says `ergon.`; it is quoted, since it may be a reserved word.
    pub(crate) fn qualify(&self, sql: &str) -> String {
        sql.replace(PLACEHOLDER, &format!("\"{}\".", self.0))
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self(SCHEMA_DEFAULT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_lower_case_names_are_taken() {
        for name in ["ergon", "_", "a1", "select", &"x".repeat(48)] {
            assert_eq!(Schema::new(name).unwrap().name(), name);
        }
        for name in ["", "1a", "Ergon", "a-b", "a.b", "a\"b", "ä", "a b", "a\0", &"x".repeat(49)] {
            assert_eq!(Schema::new(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_statement_names_the_schema_quoted() {
        let schema = Schema::new("user").unwrap();
        assert_eq!(schema.qualify("SELECT FROM ergon.task"), "SELECT FROM \"user\".task");
    }
}
