//! Every statement of the store, once a schema: `ergon.` in the files stands for its quoted name.

use std::sync::Arc;

use sqlx::{
    __query_with_result as query_with_result, Arguments as _, AssertSqlSafe, Encode, Postgres,
    Type, error::BoxDynError, postgres::PgArguments,
};

use crate::{database, schema::Schema};

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    text: Arc<str>,
}

impl Statement {
    /// Begins its list of arguments.
    pub(crate) fn bind(&self) -> Bound {
        Bound { text: Arc::clone(&self.text), arguments: Ok(PgArguments::default()) }
    }

    /// Binds one argument.
    pub(crate) fn with<'q>(&self, value: impl Encode<'q, Postgres> + Type<Postgres>) -> Bound {
        self.bind().with(value)
    }
}

/// A statement with its arguments, encoded once however often it is sent.
pub(crate) struct Bound {
    text: Arc<str>,
    arguments: Result<PgArguments, String>,
}

impl Bound {
    /// Binds the next argument.
    #[must_use]
    pub(crate) fn with<'q>(mut self, value: impl Encode<'q, Postgres> + Type<Postgres>) -> Self {
        let added = self.arguments.as_mut().map(|arguments| arguments.add(value));
        if let Ok(Err(error)) = added {
            self.arguments = Err(error.to_string());
        }
        self
    }

    /// The query, to be sent once.
    pub(crate) fn query(&self) -> database::Statement {
        // The text is a file of this crate, and the name of the schema was checked.
        let text = AssertSqlSafe(Arc::clone(&self.text));
        query_with_result(text, self.arguments.clone().map_err(BoxDynError::from))
    }
}

/// Where the fragment that finds tasks is put.
const PLACE: &str = "-- place.sql\n";

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $text:expr,)+) => {
        /// The statements, by name.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $($(#[$doc])* pub(crate) $name: Statement,)+
        }

        impl Statements {
            /// Makes the statements for a schema.
            pub(crate) fn new(schema: &Schema) -> Self {
                let statement = |text: &str| {
                    let text = text.replace(PLACE, include_str!("queries/place.sql"));
                    Statement { text: schema.qualify(&text).into() }
                };
                Self { $($name: statement($text),)+ }
            }
        }
    };
}

statements! {
    insert: include_str!("queries/enqueue/insert.sql"),
    insert_one: include_str!("queries/enqueue/insert_one.sql"),
    holders: include_str!("queries/enqueue/holders.sql"),
    reserve: include_str!("queries/enqueue/reserve.sql"),
    claim: include_str!("queries/dispatch/claim.sql"),
    bound: include_str!("queries/dispatch/bound.sql"),
    settle: include_str!("queries/dispatch/settle.sql"),
    held: include_str!("queries/dispatch/held.sql"),
    renew: include_str!("queries/dispatch/renew.sql"),
    renew_locked: include_str!("queries/dispatch/renew_locked.sql"),
    split: include_str!("queries/dispatch/split.sql"),
    apart: include_str!("queries/dispatch/apart.sql"),
    cancels: include_str!("queries/dispatch/cancels.sql"),
    report: include_str!("queries/dispatch/report.sql"),
    due: include_str!("queries/dispatch/due.sql"),
    found_by_token: include_str!("queries/dispatch/found_by_token.sql"),
    finished: include_str!("queries/inspect/finished.sql"),
    found_by_id: include_str!("queries/inspect/found_by_id.sql"),
    found_in_range: include_str!("queries/inspect/found_in_range.sql"),
    walk_up: include_str!("queries/inspect/walk_up.sql"),
    walk_down: include_str!("queries/inspect/walk_down.sql"),
    sparse_up: include_str!("queries/inspect/sparse_up.sql"),
    sparse_down: include_str!("queries/inspect/sparse_down.sql"),
    queues: include_str!("queries/inspect/queues.sql"),
    documents_up: include_str!("queries/inspect/documents_up.sql"),
    documents_down: include_str!("queries/inspect/documents_down.sql"),
    leases: include_str!("queries/control/leases.sql"),
    change: include_str!("queries/control/change.sql"),
    set_queue: include_str!("queries/control/set_queue.sql"),
    put: include_str!("queries/control/put.sql"),
    watch: include_str!("queries/observe/watch.sql"),
    watch_late: include_str!("queries/observe/watch_late.sql"),
    watch_anew: include_str!("queries/observe/watch_anew.sql"),
    using: include_str!("queries/observe/using.sql"),
    going: include_str!("queries/observe/going.sql"),
    unwatch: include_str!("queries/observe/unwatch.sql"),
    watchers: include_str!("queries/observe/watchers.sql"),
    latest: include_str!("queries/observe/latest.sql"),
    changes: include_str!("queries/observe/changes.sql"),
    has_changes: include_str!("queries/observe/has_changes.sql"),
    announce: include_str!("queries/observe/announce.sql"),
    expired: include_str!("queries/maintain/expired.sql"),
    prune: include_str!("queries/maintain/prune.sql"),
    documents: include_str!("queries/maintain/documents.sql"),
    lead: include_str!("queries/maintain/lead.sql"),
    resign: include_str!("queries/maintain/resign.sql"),
    fold: include_str!("queries/maintain/fold.sql"),
    compact: include_str!("queries/maintain/compact.sql"),
    partition_ahead: include_str!("queries/maintain/partition_ahead.sql"),
    partition_ripe: include_str!("queries/maintain/partition_ripe.sql"),
    partition_seal: include_str!("queries/maintain/partition_seal.sql"),
    partition_drop: include_str!("queries/maintain/partition_drop.sql"),
    trim: include_str!("queries/maintain/trim.sql"),
    reports: include_str!("queries/maintain/reports.sql"),
    sweep: include_str!("queries/maintain/sweep.sql"),
    queues_known: include_str!("queries/name/queues_known.sql"),
    kinds_known: include_str!("queries/name/kinds_known.sql"),
    lanes_known: include_str!("queries/name/lanes_known.sql"),
    names: include_str!("queries/name/all.sql"),
}
