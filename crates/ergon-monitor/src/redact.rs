//! What is hidden of payloads, results and metadata.

use std::{fmt, sync::Arc};

use crate::json::Json;

/// What stands for a value that is hidden.
pub const HIDDEN: &str = "[hidden]";

/// Words that hide what stands under a key that contains them.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "privatekey",
    "credential",
    "cookie",
    "sessionid",
    "cardnumber",
];

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The payload of the task.
    Payload,
    /// What its handler answered.
    Result,
    /// Its metadata.
    Metadata,
}

/// A value under a key, as a [hook](Redaction::hook) is asked about it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Field<'a> {
    /// The kind of the task.
    pub kind: &'a str,
    /// Where the value comes from.
    pub origin: Origin,
    /// The keys that lead to it, from the outermost; those of an array are left out.
    pub path: &'a [&'a str],
}

type Hook = Arc<dyn Fn(&Field<'_>) -> bool + Send + Sync>;

/// Decides what is hidden.
///
/// A value is hidden, with all below it, when its key contains one of these words, whatever the case
/// and without `-`, `_`, `.` and spaces: password, passwd, passphrase, secret, token, authorization,
/// apikey, privatekey, credential, cookie, sessionid, cardnumber; or one that was added, or when the
/// hook says so. It is hidden from everybody, on pages, in the API and in downloads alike. A payload
/// that is not JSON has no keys: whoever may see payloads sees all of it.
#[derive(Clone)]
pub struct Redaction {
    words: Vec<String>,
    hook: Option<Hook>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self { words: WORDS.map(str::to_owned).to_vec(), hook: None }
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, hook } = self;
        f.debug_struct("Redaction").field("words", words).field("hook", &hook.is_some()).finish()
    }
}

impl Redaction {
    /// Hides what stands under keys that contain this word too.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.words.push(plain(word));
        self
    }

    /// Asks this function too: it says of a field whether it is hidden. It must be quick, and not
    /// panic.
    #[must_use]
    pub fn hook(mut self, hook: impl Fn(&Field<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    pub(crate) const fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Hides what is to be hidden within a value.
    pub(crate) fn apply(&self, kind: &str, origin: Origin, value: &mut Json) {
        if let Json::Object(entries) = value {
            return self.entries(kind, origin, entries, &[]);
        }
        self.within(kind, origin, value, &[]);
    }

    fn within(&self, kind: &str, origin: Origin, value: &mut Json, path: &[&str]) {
        match value {
            Json::Object(entries) => self.entries(kind, origin, entries, path),
            Json::Array(items) => {
                items.iter_mut().for_each(|item| self.within(kind, origin, item, path));
            }
            // Too deep to be looked through, so nobody looks at it.
            Json::Deep(_) => *value = Json::Text(HIDDEN.to_owned()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
        }
    }

    fn entries(&self, kind: &str, origin: Origin, entries: &mut [(String, Json)], path: &[&str]) {
        for (key, value) in entries {
            let path = [path, &[key.as_str()]].concat();
            if self.hides(&Field { kind, origin, path: &path }) {
                *value = Json::Text(HIDDEN.to_owned());
            } else {
                self.within(kind, origin, value, &path);
            }
        }
    }

    /// Says whether a field is hidden.
    pub(crate) fn hides(&self, field: &Field<'_>) -> bool {
        let key = field.path.last().map(|key| plain(key)).unwrap_or_default();
        self.words.iter().any(|word| key.contains(word.as_str()))
            || self.hook.as_ref().is_some_and(|hook| hook(field))
    }
}

/// A key or word without what spellings differ in.
fn plain(key: &str) -> String {
    let is_kept = |character: &char| !matches!(character, '-' | '_' | '.' | ' ');
    key.chars().filter(is_kept).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(redaction: &Redaction, text: &str, expected: &str) {
        let mut json = Json::parse(text.as_bytes()).unwrap();
        redaction.apply("k", Origin::Payload, &mut json);
        assert_eq!(json.to_string(), expected);
    }

    #[test]
    fn values_under_telling_keys_are_hidden_with_all_below() {
        let redaction = Redaction::default();
        check(&redaction, r#"{"a":1,"Password":"x"}"#, r#"{"a":1,"Password":"[hidden]"}"#);
        check(&redaction, r#"{"api-key":{"a":1}}"#, r#"{"api-key":"[hidden]"}"#);
        check(
            &redaction,
            r#"[{"a":[{"accessToken":1}]}]"#,
            r#"[{"a":[{"accessToken":"[hidden]"}]}]"#,
        );
        check(&redaction, r#""password""#, r#""password""#);
        let deep = format!(r#"{}{{"password":1}}{}"#, "[".repeat(80), "]".repeat(80));
        let mut json = Json::parse(deep.as_bytes()).unwrap();
        redaction.apply("k", Origin::Payload, &mut json);
        assert!(!json.to_string().contains("password"));
    }

    #[test]
    fn words_can_be_added_and_a_hook_sees_the_way() {
        let redaction = Redaction::default()
            .word("E-Mail")
            .hook(|field| field.kind == "k" && field.path == ["user", "name"]);
        check(&redaction, r#"{"user_email":1}"#, r#"{"user_email":"[hidden]"}"#);
        check(&redaction, r#"{"user":[{"name":"x"}]}"#, r#"{"user":[{"name":"[hidden]"}]}"#);
        check(&redaction, r#"{"name":"x"}"#, r#"{"name":"x"}"#);
    }
}
