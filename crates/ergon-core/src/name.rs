//! Validated names: kinds, queues and tags.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::error::InvalidName;

/// Longest name of a kind or a queue, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;

/// Says whether `name` may name a kind or a queue: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
///
/// A `const fn`, so that a constant name can be checked while compiling.
#[must_use]
pub const fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9'
            | b'.' | b'_' | b':' | b'/' | b'-')
        {
            return false;
        }
        at += 1;
    }
    true
}

/// A tag is shown to people and searched for: any text without control characters.
fn is_valid_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && !tag.chars().any(char::is_control)
}

macro_rules! validated_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:path, $rule:literal) => {
        $(#[$doc])*
        ///
        /// Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a text.
            ///
            /// # Errors
            ///
            #[doc = concat!("[`InvalidName`] unless the text is ", $rule, ".")]
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                if $valid(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidName::new($what, text, $rule))
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
    };
}

validated_text! {
    /// The stable name of a type of task: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
    KindName, "kind", is_valid_name, "1 to 128 bytes of [A-Za-z0-9._:/-]"
}

validated_text! {
    /// The name of a queue: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
    QueueName, "queue", is_valid_name, "1 to 128 bytes of [A-Za-z0-9._:/-]"
}

validated_text! {
    /// The name of somebody who watches a store: 1 to 128 bytes of `[A-Za-z0-9._:/-]`.
    WatcherName, "watcher", is_valid_name, "1 to 128 bytes of [A-Za-z0-9._:/-]"
}

validated_text! {
    /// A searchable label of a task: 1 to 64 bytes of text without control characters.
    Tag, "tag", is_valid_tag, "1 to 64 bytes without control characters"
}

impl QueueName {
    /// The queue of tasks that choose none.
    pub const DEFAULT: &'static str = "default";
}

impl Default for QueueName {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_documented_characters_and_nothing_else() {
        for good in ["a", "email.send", "A-Z_0:9/x", &"x".repeat(128)] {
            assert!(KindName::new(good).is_ok(), "{good:?}");
            assert!(QueueName::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", " ", "a b", "ä", "a\0", "a\n", "'; drop", &"x".repeat(129)] {
            assert!(KindName::new(bad).is_err(), "{bad:?}");
            assert!(QueueName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tags_take_text_but_no_control_characters() {
        for good in ["a", "größe: 5 €", &"x".repeat(64)] {
            assert!(Tag::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\0", "a\nb", "\u{7f}", &"x".repeat(65)] {
            assert!(Tag::new(bad).is_err(), "{bad:?}");
        }
    }
}
