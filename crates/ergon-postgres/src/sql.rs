//! Every statement of the store, once a schema: `ergon.` in the files stands for its quoted name.

use std::sync::Arc;

use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, Postgres, Type, error::BoxDynError, postgres::PgArguments,
    __query_with_result as query_with_result,
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
    ($($(#[$doc:meta])* $name:ident: $file:literal,)+) => {
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
                Self { $($name: statement(include_str!($file)),)+ }
            }
        }
    };
}

statements! {
    insert: "queries/enqueue/insert.sql",
    insert_one: "queries/enqueue/insert_one.sql",
    holders: "queries/enqueue/holders.sql",
    reserve: "queries/enqueue/reserve.sql",
    claim: "queries/dispatch/claim.sql",
    bound: "queries/dispatch/bound.sql",
    settle: "queries/dispatch/settle.sql",
    held: "queries/dispatch/held.sql",
    renew: "queries/dispatch/renew.sql",
    renew_locked: "queries/dispatch/renew_locked.sql",
    split: "queries/dispatch/split.sql",
    apart: "queries/dispatch/apart.sql",
    cancels: "queries/dispatch/cancels.sql",
    due: "queries/dispatch/due.sql",
    found_by_token: "queries/dispatch/found_by_token.sql",
    finished: "queries/inspect/finished.sql",
    found_by_id: "queries/inspect/found_by_id.sql",
    found_in_range: "queries/inspect/found_in_range.sql",
    walk_up: "queries/inspect/walk_up.sql",
    walk_down: "queries/inspect/walk_down.sql",
    sparse_up: "queries/inspect/sparse_up.sql",
    sparse_down: "queries/inspect/sparse_down.sql",
    queues: "queries/inspect/queues.sql",
    leases: "queries/control/leases.sql",
    change: "queries/control/change.sql",
    set_queue: "queries/control/set_queue.sql",
    expired: "queries/maintain/expired.sql",
    prune: "queries/maintain/prune.sql",
    lead: "queries/maintain/lead.sql",
    resign: "queries/maintain/resign.sql",
    fold: "queries/maintain/fold.sql",
    compact: "queries/maintain/compact.sql",
    partition_ahead: "queries/maintain/partition_ahead.sql",
    partition_ripe: "queries/maintain/partition_ripe.sql",
    partition_seal: "queries/maintain/partition_seal.sql",
    partition_drop: "queries/maintain/partition_drop.sql",
    sweep: "queries/maintain/sweep.sql",
    queues_known: "queries/name/queues_known.sql",
    kinds_known: "queries/name/kinds_known.sql",
    lanes_known: "queries/name/lanes_known.sql",
    names: "queries/name/all.sql",
}
