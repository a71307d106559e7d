//! Who may come in to the monitor, as it is written on the command line and in files.

use std::{fs, path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};
use ergon_monitor::{AccessToken, Acknowledge, Auth, Network, Role, Secret, User, auth::Roles};
use http::HeaderName;

/// Who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Loopback,
    Basic(PathBuf),
    Bearer(PathBuf),
    Forwarded { header: HeaderName, role: Role },
    None,
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (how, rest) = text.split_once(':').unwrap_or((text, ""));
        match (how, rest) {
            ("loopback", "") => Ok(Self::Loopback),
            ("none", "") => Ok(Self::None),
            ("basic", path) if !path.is_empty() => Ok(Self::Basic(path.into())),
            ("bearer", path) if !path.is_empty() => Ok(Self::Bearer(path.into())),
            ("forwarded", rest) => {
                let (header, role) =
                    rest.split_once(':').ok_or("say it as `forwarded:HEADER:ROLE`")?;
                let header = header.parse().map_err(|_invalid| "that is no name of a header")?;
                let role = role_of(role).ok_or("roles are viewer, operator and admin")?;
                Ok(Self::Forwarded { header, role })
            }
            _ => {
                Err("one of loopback, basic:FILE, bearer:FILE, forwarded:HEADER:ROLE, none".into())
            }
        }
    }
}

impl Access {
    /// What the monitor is told; reads the file, if there is one.
    pub(crate) fn auth(&self, proxies: &[Network], is_none_meant: bool) -> Result<Auth> {
        match self {
            Self::Loopback => Ok(Auth::LoopbackOnly),
            Self::Basic(path) => {
                let users = people(path)?;
                let user = |Person { name, secret, role }| User::new(name, secret, role);
                Ok(Auth::Basic(users.into_iter().map(user).collect()))
            }
            Self::Bearer(path) => {
                let programs = people(path)?;
                let token = |Person { name, secret, role }| AccessToken::new(name, secret, role);
                Ok(Auth::Bearer(programs.into_iter().map(token).collect()))
            }
            Self::Forwarded { header, role } => {
                ensure!(!proxies.is_empty(), "say whom to believe with --trusted-proxy");
                Ok(Auth::ForwardedUser {
                    header: header.clone(),
                    trusted_proxies: proxies.to_vec(),
                    roles: Roles::all(*role),
                })
            }
            Self::None if is_none_meant => Ok(Auth::None(Acknowledge::EveryoneMayDoEverything)),
            Self::None => bail!(
                "with --auth none everybody who reaches the address may do everything: add --insecure-no-auth if that is meant"
            ),
        }
    }
}

/// Somebody of a file.
struct Person {
    name: String,
    role: Role,
    secret: Secret,
}

fn people(path: &PathBuf) -> Result<Vec<Person>> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    parse_people(&text).with_context(|| format!("{shown} is not understood"))
}

/// Reads a line `NAME:ROLE:SECRET` for each; empty lines and those that begin with `#` are passed over.
fn parse_people(text: &str) -> Result<Vec<Person>> {
    let mut people = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line holds a secret, so only its number is told.
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(role), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            bail!("line {number} is not NAME:ROLE:SECRET");
        };
        let Some(role) = role_of(role) else {
            bail!("line {number}: roles are viewer, operator and admin");
        };
        ensure!(!secret.is_empty(), "line {number} has no secret");
        people.push(Person { name: name.to_owned(), role, secret: Secret::new(secret) });
    }
    Ok(people)
}

fn role_of(text: &str) -> Option<Role> {
    match text {
        "viewer" => Some(Role::Viewer),
        "operator" => Some(Role::Operator),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_in_is_said_in_one_word() {
        let header = "x-forwarded-user".parse().unwrap();
        let table = [
            ("loopback", Access::Loopback),
            ("none", Access::None),
            ("basic:/etc/users", Access::Basic("/etc/users".into())),
            ("bearer:tokens", Access::Bearer("tokens".into())),
            (
                "forwarded:X-Forwarded-User:operator",
                Access::Forwarded { header, role: Role::Operator },
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), Ok(expected));
        }
        for bad in ["", "basic", "basic:", "loopback:x", "forwarded:x", "forwarded:a b:admin"] {
            assert!(bad.parse::<Access>().is_err(), "{bad}");
        }
    }

    #[test]
    fn files_name_people_their_role_and_their_secret() {
        let people = parse_people("# who\n\nana:operator:a:b\n bo:viewer:c \n").unwrap();
        let names: Vec<_> = people.iter().map(|it| (it.name.as_str(), it.role)).collect();
        assert_eq!(names, [("ana", Role::Operator), ("bo", Role::Viewer)]);
        for bad in ["ana", "ana:operator", "ana:boss:x", "ana:admin:"] {
            let error = parse_people(bad).err().unwrap().to_string();
            assert!(error.starts_with("line 1") && !error.contains("ana"), "{error}");
        }
    }

    #[test]
    fn nobody_is_let_in_by_accident() {
        assert!(Access::None.auth(&[], false).is_err());
        assert!(matches!(Access::None.auth(&[], true), Ok(Auth::None(_))));
        let forwarded = "forwarded:x-user:admin".parse::<Access>().unwrap();
        assert!(forwarded.auth(&[], false).is_err());
    }
}
