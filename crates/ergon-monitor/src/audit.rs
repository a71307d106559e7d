//! Who ordered what: written into the audit trail of the store, and told to the log.
//!
//! An order is written down before it is carried out, and again with what came of it. One that was
//! begun and has no end may have been carried out: the monitor died in between.

use ergon_core::audit::{Actor, Audit, AuditEntry, AuditOutcome};

use crate::{
    auth::Action,
    error::{PageError, Trouble},
    shared::Shared,
    visit::Context,
};

/// An order that is about to be given.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) action: Action,
    name: String,
    target: String,
    count: Option<u64>,
    note: String,
}

impl Order {
    /// To do this to that: the id of a task, the name of a queue, or which tasks. Never a payload.
    pub(crate) fn new(action: Action, target: impl Into<String>) -> Self {
        let name = action.audited().to_owned();
        Self { action, name, target: target.into(), count: None, note: String::new() }
    }

    /// To so many.
    pub(crate) const fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Written down under another name than that of the action.
    pub(crate) fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// With a word to it.
    pub(crate) fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }

    fn audit(self, context: &Context) -> Audit {
        let audit = Audit::new(actor(context), self.name, self.target).note(self.note);
        match self.count {
            Some(count) => audit.count(count),
            None => audit,
        }
    }
}

/// Whoever gives an order, as the trail names them.
pub(crate) fn actor(context: &Context) -> Actor {
    let address = context.visit.client.map(|address| address.to_string());
    let actor = Actor::new(context.principal.name()).role(context.principal.role().as_str());
    actor.address(address.unwrap_or_default())
}

/// Writes down an order that is about to be carried out; it must not be if this fails.
pub(crate) async fn begin(context: &Context, order: Order) -> Result<AuditEntry, PageError> {
    let (app, audit) = (&context.app, order.audit(context));
    let entry = app.orders.read("audit", app.manager.audit().begin(audit)).await?;
    log(&entry);
    Ok(entry)
}

/// Writes down an order that whoever gave it may not give.
pub(crate) async fn deny(context: &Context, order: Order, reason: &str) {
    let (app, audit) = (&context.app, order.note(reason).audit(context));
    match app.orders.read("audit", app.manager.audit().denied(audit.clone())).await {
        Ok(entry) => log(&entry),
        Err(trouble) => lost(&trouble, &audit),
    }
}

/// Writes down what came of an order.
pub(crate) async fn complete(
    shared: &Shared,
    entry: AuditEntry,
    outcome: AuditOutcome,
    count: Option<u64>,
    note: String,
) {
    let trail = shared.manager.audit();
    let completed = shared
        .orders
        .read("audit", trail.complete(entry.clone(), outcome, count, note.clone()))
        .await;
    match completed {
        Ok(entry) => log(&entry),
        Err(trouble) => lost(&trouble, &(entry, outcome, count, note)),
    }
}

/// What the trail could not keep is at least in the log.
fn lost(trouble: &Trouble, what: &dyn std::fmt::Debug) {
    tracing::error!(target: "ergon::audit", %trouble, ?what, "the audit trail could not keep this");
}

fn log(entry: &AuditEntry) {
    let AuditEntry { id, actor, action, target, count, outcome, note, .. } = entry;
    let (name, role, address) = (&actor.name, &actor.role, &actor.address);
    tracing::info!(
        target: "ergon::audit",
        %id, actor = name, role, address, action, target, count, ?outcome, note,
        "order"
    );
}
