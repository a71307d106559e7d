//! The embedded store of ergon: redb behind one group-committing writer.
