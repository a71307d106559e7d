//! JSON as it was written: numbers digit by digit, keys in their order.

use std::fmt;

use serde::{
    Deserialize, Serialize, Serializer,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};
use serde_json::value::RawValue;

/// Deepest nesting that is taken apart; what lies deeper stays text.
const DEPTH_MAX: usize = 64;

/// A JSON value.
///
/// `serde_json::Value` would round long numbers, sort keys and forget those that come twice: a monitor
/// has to show what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// A value too deep to be taken apart, as it was written.
    Deep(String),
}

impl Json {
    /// Reads a whole text; `None` if it is not JSON.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
        Self::of_raw(raw, 0)
    }

    fn of_raw(raw: &RawValue, depth: usize) -> Option<Self> {
        let text = raw.get();
        if depth >= DEPTH_MAX && text.starts_with(['{', '[']) {
            return Some(Self::Deep(text.to_owned()));
        }
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            // A lone surrogate is JSON, but no text: it is shown as it was written.
            b'"' => {
                serde_json::from_str(text).map_or_else(|_| Self::Text(text.to_owned()), Self::Text)
            }
            b'[' => {
                let Items(items) = serde_json::from_str(text).ok()?;
                let items: Option<_> =
                    items.into_iter().map(|item| Self::of_raw(item, depth + 1)).collect();
                Self::Array(items?)
            }
            b'{' => {
                let Entries(entries) = serde_json::from_str(text).ok()?;
                let entries: Option<_> = entries
                    .into_iter()
                    .map(|(key, value)| Some((key, Self::of_raw(value, depth + 1)?)))
                    .collect();
                Self::Object(entries?)
            }
            _ => Self::Number(text.to_owned()),
        })
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_error| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(raw) | Self::Deep(raw) => {
                let raw = RawValue::from_string(raw.clone()).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| sequence.serialize_element(item))?;
                sequence.end()
            }
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while let Some(item) = items.next_element()? {
                    read.push(item);
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(Reader).map(Items)
    }
}

struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    read.push(entry);
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Reader).map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_is_shown() {
        for text in [
            "null",
            "true",
            "12345678901234567890123",
            "1.10",
            "-0.0",
            "1e400",
            r#""<b>""#,
            r#"{"b":1,"a":[{},[],""],"b":2}"#,
        ] {
            assert_eq!(Json::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        let spaced = Json::parse(b" { \"a\" : [ 1 , 2 ] } ").unwrap();
        assert_eq!(spaced.to_string(), r#"{"a":[1,2]}"#);
        for bad in ["", "{", "nul", "\u{0}", "{} {}"] {
            assert_eq!(Json::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn deep_values_stay_text() {
        let text = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(Json::parse(text.as_bytes()).unwrap().to_string(), text);
        // Deeper than any reader goes: no JSON for us.
        let bottomless = "[".repeat(100_000);
        assert_eq!(Json::parse(bottomless.as_bytes()), None);
    }

    #[test]
    fn a_lone_surrogate_is_shown_as_written() {
        assert_eq!(Json::parse(br#""\ud800""#), Some(Json::Text(r#""\ud800""#.to_owned())));
    }
}
