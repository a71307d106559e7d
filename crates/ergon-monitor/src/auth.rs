//! Who may come in: the choice, and the people and programs that it lets in.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use http::{HeaderName, request::Parts};

use crate::{error::MonitorError, network::Network};

mod gate;
mod permission;
mod secret;

pub(crate) use self::gate::{Gate, proxies, require};
pub use self::{
    permission::{Action, Permissions, Role},
    secret::Secret,
};

/// Who may come in. There is no default: whoever builds a monitor says it.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever sits at this machine, as an administrator called `local`.
    ///
    /// A request that was forwarded by a proxy is refused, since to a proxy on this machine everybody
    /// is local. The address of the peer has to be known: [`serve`](crate::Monitor::serve) sees to it;
    /// a router that is embedded needs `into_make_service_with_connect_info::<SocketAddr>()`.
    LoopbackOnly,
    /// Whoever knows the password of a user. Browsers ask for it.
    ///
    /// Passwords travel readably: put TLS before the monitor unless it is reached by loopback.
    Basic(Vec<User>),
    /// Whoever shows a token, as programs do: `Authorization: Bearer …`.
    Bearer(Vec<AccessToken>),
    /// Whoever a proxy has made sure of, and named in a header.
    ForwardedUser {
        /// The header, such as `x-forwarded-user`.
        header: HeaderName,
        /// The proxies that are believed; of anybody else the header is worth nothing.
        trusted_proxies: Vec<Network>,
        /// What those named may do.
        roles: Roles,
    },
    /// Whoever an own check lets in.
    Custom(Arc<dyn Authenticate>),
    /// Everybody, as an administrator called `anyone`. Every page says so.
    None(Acknowledge),
}

/// Says that a monitor without any check is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// Everyone who reaches the monitor may see and do everything.
    EveryoneMayDoEverything,
}

impl Auth {
    /// Says whether somebody is asked who comes, so that other machines may reach the monitor.
    pub(crate) const fn asks(&self) -> bool {
        match self {
            Self::LoopbackOnly | Self::None(_) => false,
            Self::Basic(_) | Self::Bearer(_) | Self::ForwardedUser { .. } | Self::Custom(_) => true,
        }
    }

    /// Its name, as the page of the system shows it.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::LoopbackOnly => "loopback only",
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::ForwardedUser { .. } => "forwarded user",
            Self::Custom(_) => "custom",
            Self::None(_) => "none",
        }
    }

    pub(crate) fn check(&self) -> Result<(), MonitorError> {
        let nobody = match self {
            Self::Basic(users) => users.is_empty(),
            Self::Bearer(tokens) => tokens.is_empty(),
            Self::ForwardedUser { trusted_proxies, .. } => trusted_proxies.is_empty(),
            Self::LoopbackOnly | Self::Custom(_) | Self::None(_) => false,
        };
        if nobody {
            return Err(MonitorError::invalid("auth", "lets nobody in"));
        }
        let bad_name = |name: &str| name.is_empty() || name.len() > 128 || name.contains(':');
        if matches!(self, Self::Basic(users) if users.iter().any(|user| bad_name(&user.name))) {
            return Err(MonitorError::invalid("auth", "a user's name is 1 to 128 bytes without :"));
        }
        Ok(())
    }
}

/// A user with a password.
#[derive(Clone, Debug)]
pub struct User {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    pub(crate) rights: Rights,
}

impl User {
    /// A user: the name without `:`, the password, and what the user may do.
    #[must_use]
    pub fn new(name: impl Into<String>, password: Secret, role: Role) -> Self {
        Self { name: name.into(), secret: password, rights: Rights::of(role) }
    }

    /// Whether the user sees payloads and results. Default: not a viewer.
    #[must_use]
    pub const fn view_payloads(mut self, allowed: bool) -> Self {
        self.rights.view_payloads = allowed;
        self
    }
}

/// A token that a program shows.
#[derive(Clone, Debug)]
pub struct AccessToken {
    pub(crate) name: String,
    pub(crate) secret: Secret,
    pub(crate) rights: Rights,
}

impl AccessToken {
    /// A token: what whoever shows it is called, the token, and what it opens.
    #[must_use]
    pub fn new(name: impl Into<String>, token: Secret, role: Role) -> Self {
        Self { name: name.into(), secret: token, rights: Rights::of(role) }
    }

    /// Whether it opens payloads and results. Default: not for a viewer.
    #[must_use]
    pub const fn view_payloads(mut self, allowed: bool) -> Self {
        self.rights.view_payloads = allowed;
        self
    }
}

/// What somebody may do and see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rights {
    pub(crate) role: Role,
    pub(crate) view_payloads: bool,
}

impl Rights {
    const fn of(role: Role) -> Self {
        Self { role, view_payloads: !matches!(role, Role::Viewer) }
    }
}

/// What those may do that a proxy names.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    named: BTreeMap<String, Rights>,
    others: Option<Rights>,
}

impl Roles {
    /// Everybody the proxy names may do this.
    #[must_use]
    pub fn all(role: Role) -> Self {
        Self { named: BTreeMap::new(), others: Some(Rights::of(role)) }
    }

    /// Nobody but those named [with](Self::with) a role comes in.
    #[must_use]
    pub fn nobody_else() -> Self {
        Self::default()
    }

    /// This one may do that.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, role: Role) -> Self {
        self.named.insert(name.into(), Rights::of(role));
        self
    }

    /// What this one may do; `None` when nothing at all.
    pub(crate) fn of(&self, name: &str) -> Option<Rights> {
        self.named.get(name).copied().or(self.others)
    }
}

/// Who sent a request, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub(crate) name: String,
    pub(crate) rights: Rights,
    pub(crate) is_explicit: bool,
}

impl Principal {
    /// Somebody with this name, shown and kept in the audit, and this role.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), rights: Rights::of(role), is_explicit: false }
    }

    /// All who have these rights: for what is shown to each of them alike.
    pub(crate) const fn nameless(rights: Rights) -> Self {
        Self { name: String::new(), rights, is_explicit: false }
    }

    /// Whether they see payloads and results. Default: not a viewer.
    #[must_use]
    pub const fn view_payloads(mut self, allowed: bool) -> Self {
        self.rights.view_payloads = allowed;
        self
    }

    /// The request carried something that no browser sends of its own accord, such as a bearer token:
    /// it cannot have been forged by another site. Not so for cookies, passwords and client
    /// certificates.
    #[must_use]
    pub const fn explicit(mut self) -> Self {
        self.is_explicit = true;
        self
    }

    /// What they are called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.rights.role
    }

    /// Whether they see payloads and results.
    #[must_use]
    pub const fn may_view_payloads(&self) -> bool {
        self.rights.view_payloads
    }
}

/// Why somebody does not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Nobody is known to have sent the request; with what `WWW-Authenticate` asks for, if anything.
    Unauthenticated {
        /// Such as `Basic realm="ergon"`.
        challenge: Option<String>,
    },
    /// They are known, and may not come in.
    Forbidden {
        /// What they are told.
        reason: String,
    },
}

/// An own check of who comes, such as by the session of the application around the monitor.
///
/// ```
/// use std::net::IpAddr;
///
/// use ergon_monitor::{Authenticate, Denial, Principal, Role};
/// use http::request::Parts;
///
/// #[derive(Debug)]
/// struct Sessions;
///
/// #[async_trait::async_trait]
/// impl Authenticate for Sessions {
///     async fn authenticate(
///         &self,
///         request: &Parts,
///         _client: Option<IpAddr>,
///     ) -> Result<Principal, Denial> {
///         match request.headers.get("x-session").map(|value| value.as_bytes()) {
///             Some(b"ana") => Ok(Principal::new("ana", Role::Operator)),
///             _ => Err(Denial::Unauthenticated { challenge: None }),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// Says who sent the request; `client` is the address it came from, as far as it is known.
    ///
    /// It is asked for every request, those for styles and health excepted, and has to be quick: what
    /// takes longer than a second is a denial.
    ///
    /// # Errors
    ///
    /// [`Denial`] when they may not come in.
    async fn authenticate(
        &self,
        request: &Parts,
        client: Option<IpAddr>,
    ) -> Result<Principal, Denial>;
}
