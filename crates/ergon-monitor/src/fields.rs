//! What a form or a program sends with an order.

use crate::{error::PageError, json::Json};

/// Named values, several of which may have the same name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    values: Vec<(String, String)>,
    /// The payload as it was written, if a program sent one.
    payload: Option<String>,
    is_json: bool,
}

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub(crate) fn parse(body: &[u8], is_json: bool) -> Result<Self, PageError> {
        if body.is_empty() {
            return Ok(Self { is_json, ..Self::default() });
        }
        if !is_json {
            let values = form_urlencoded::parse(body)
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            return Ok(Self { values, payload: None, is_json });
        }
        let Some(Json::Object(entries)) = Json::parse(body) else {
            return Err(PageError::Malformed("the body is no JSON object".to_owned()));
        };
        let mut fields = Self { is_json, ..Self::default() };
        for (name, value) in entries {
            match value {
                value if name == "payload" => fields.payload = Some(value.to_string()),
                Json::Array(items) => {
                    let items = items.into_iter().map(|item| (name.clone(), text(item)));
                    fields.values.extend(items);
                }
                Json::Null => {}
                value => fields.values.push((name, text(value))),
            }
        }
        Ok(fields)
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// The values of this name that are not empty.
    pub(crate) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        let named = self.values.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of them.
    pub(crate) fn one<'f>(&'f self, name: &'f str) -> Option<&'f str> {
        self.all(name).next()
    }

    /// The first of them, which has to be there.
    pub(crate) fn wanted<'f>(&'f self, name: &'f str) -> Result<&'f str, PageError> {
        self.one(name).ok_or_else(|| PageError::Malformed(format!("{name}: missing")))
    }

    /// A number, which has to be there.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<N, PageError>
    where
        N::Err: std::fmt::Display,
    {
        let wrong = |error: N::Err| PageError::Malformed(format!("{name}: {error}"));
        let text =
            self.one(name).ok_or_else(|| PageError::Malformed(format!("{name}: missing")))?;
        text.parse().map_err(wrong)
    }

    /// The payload, as JSON.
    pub(crate) fn payload(&self) -> Result<String, PageError> {
        match (&self.payload, self.one("payload")) {
            (Some(payload), _) => Ok(payload.clone()),
            (None, Some(text)) => Ok(text.to_owned()),
            (None, None) => Err(PageError::Malformed("payload: missing".to_owned())),
        }
    }
}

fn text(json: Json) -> String {
    match json {
        Json::Text(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_programs_say_the_same() {
        let form =
            Fields::parse(b"ids=a&ids=+b+&priority=-3&empty=&payload=%7B%7D", false).unwrap();
        let json = br#"{"ids":["a","b"],"priority":-3,"empty":null,"payload":{}}"#;
        let json = Fields::parse(json, true).unwrap();
        for fields in [form, json] {
            assert_eq!(fields.all("ids").collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(fields.number::<i16>("priority").unwrap(), -3);
            assert_eq!((fields.one("empty"), fields.payload().unwrap().as_str()), (None, "{}"));
            assert!(fields.wanted("none").is_err() && fields.number::<u8>("priority").is_err());
        }
        let text = Fields::parse(br#"{"payload":"x"}"#, true).unwrap();
        assert_eq!(text.payload().unwrap(), r#""x""#);
        assert!(Fields::parse(b"[]", true).is_err() && Fields::parse(b"{", true).is_err());
        assert!(Fields::parse(b"", true).unwrap().one("x").is_none());
    }
}
