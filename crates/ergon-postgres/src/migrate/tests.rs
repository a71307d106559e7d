//! What is printed, and that the list of versions has no gap.

use super::*;

#[test]
fn versions_follow_each_other_up_to_the_one_that_is_known() {
    let versions: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    assert_eq!(versions, (1..=VERSION_KNOWN).collect::<Vec<_>>());
}

#[test]
fn nothing_printed_names_another_schema() {
    let migrator = Migrator::new("shop").unwrap();
    let sql = migrator.sql();
    assert!(sql.contains("CREATE SCHEMA IF NOT EXISTS \"shop\";"), "{sql}");
    assert!(sql.contains("CREATE TABLE \"shop\".task ("), "{sql}");
    assert!(sql.contains("VALUES (1, 'packs, ranges, leases');"), "{sql}");
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
        assert!(!line.contains("ergon."), "{line}");
    }
    for grant in migrator.grants("a\"b") {
        assert!(grant.contains("\"shop\"") && grant.ends_with(" \"a\"\"b\""), "{grant}");
    }
}

#[test]
fn versions_that_are_not_known_are_refused() {
    assert!(Migrator::check(VERSION_KNOWN).is_ok());
    let newer = Migrator::check(VERSION_KNOWN + 1).unwrap_err().to_string();
    assert_eq!(newer, "the tables are of version 2; this program knows versions up to 1");
    let older = Migrator::check(0).unwrap_err().to_string();
    assert_eq!(older, "the tables are of version 0, and 1 is needed: migrate them first");
    assert!(matches!(Migrator::new("Shop"), Err(MigrateError::InvalidSchema)));
}
