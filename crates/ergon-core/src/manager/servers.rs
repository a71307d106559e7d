//! Reads which servers there are.

use jiff::Timestamp;

use super::reading::read_all;
use crate::{
    document::{DocumentRange, Space},
    error::StoreError,
    servers::{Presence, ServerInfo},
    store::Store,
};

/// Most servers that are listed.
const SERVERS_MAX: usize = 10_000;

/// Reads which servers there are, or were until a day ago.
///
/// ```
/// use ergon_core::Manager;
/// use ergon_testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = Manager::new(MemoryStore::new());
/// for server in manager.servers().list().await? {
///     let (name, state) = (&server.profile.name, server.state.as_str());
///     println!("{name} is {state} and holds {} of {} tasks", server.held, server.slots);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Servers<'m> {
    store: &'m dyn Store,
    now: Timestamp,
}

impl<'m> Servers<'m> {
    pub(super) const fn new(store: &'m dyn Store, now: Timestamp) -> Self {
        Self { store, now }
    }

    /// Lists all servers that live, and those that were lost within a day, by id: the one that began
    /// first comes first. At most 10,000; those that this version cannot read are left out.
    ///
    /// # Errors
    ///
    /// What the store reports.
    pub async fn list(&self) -> Result<Vec<ServerInfo>, StoreError> {
        let mut servers = Vec::new();
        let range = DocumentRange::all(Space::Server);
        read_all(self.store, range, SERVERS_MAX, |document| {
            let read = Presence::read(&document);
            servers.extend(read.map(|(id, presence)| presence.info(id, self.now)));
        })
        .await?;
        Ok(servers)
    }
}
