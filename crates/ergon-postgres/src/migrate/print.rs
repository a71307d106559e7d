//! The statements of migrations, and the rights that a store needs, as text.

use std::fmt::Write as _;

use super::{MIGRATIONS, Migration, step};
use crate::schema::Schema;

/// The statements that make all versions in an empty database.
pub(super) fn up(schema: &Schema) -> String {
    let mut sql = format!(
        "-- The tables of ergon in the schema \"{name}\".\nBEGIN;\n{create};\n{table};\nCOMMIT;\n",
        name = schema.name(),
        create = step::create_schema(schema).replacen("SCHEMA", "SCHEMA IF NOT EXISTS", 1),
        table = statement(&schema.qualify(step::TABLE)),
    );
    for migration in &MIGRATIONS {
        let Migration { version, name, up, down: _ } = migration;
        let record = schema.qualify(step::RECORD);
        let record = statement(&record)
            .replace("$1", &version.to_string())
            .replace("$2", &format!("'{}'", name.replace('\'', "''")));
        let up = schema.qualify(up);
        // Writing to a string cannot fail.
        write!(sql, "\n-- Version {version}: {name}.\nBEGIN;\n{up}{record};\nCOMMIT;\n").ok();
    }
    sql
}

/// A statement without the lines of its header.
fn statement(sql: &str) -> String {
    let lines: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}

/// The statements that give a role what it needs.
pub(super) fn grants(schema: &Schema, role: &str) -> Vec<String> {
    let schema = format!("\"{}\"", schema.name());
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"),
        // The tokens of claims are drawn, and their present value is never read.
        format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"),
        // Everybody may call functions, unless that was revoked for this database.
        format!("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}"),
        format!("REVOKE INSERT, UPDATE, DELETE ON {schema}.migration FROM {role}"),
    ]
}
