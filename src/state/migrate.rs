//! The version gate of the database: which tables there are and how keys are made. Single records carry versions of
//! their own (`record`), so that one record can be newer without making the whole unreadable.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

/// Version of the tables and keys that this program writes.
pub(super) const SCHEMA: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";

/// What the gate decides.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The tables are those of [`SCHEMA`] now.
    Current,
    /// A newer program made them, of this version.
    Newer(u64),
}

/// Reads the version and brings older tables up to [`SCHEMA`], in the caller's transaction. A database without a
/// version is a new one: the version is written by its first transaction.
pub(super) fn pass(transaction: &WriteTransaction) -> Result<Gate, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let found = meta.get(SCHEMA_KEY)?.map(|version| version.value());
    match found {
        Some(version) if version > SCHEMA => Ok(Gate::Newer(version)),
        Some(SCHEMA) => Ok(Gate::Current),
        // Schema 1 is the first: there is nothing older to bring up yet.
        Some(_) | None => {
            meta.insert(SCHEMA_KEY, SCHEMA)?;
            Ok(Gate::Current)
        }
    }
}
