//! Statements for people who look around.

use diesel::sql_types::{Nullable, Text};

use crate::queries::statement;

/// To whom the connection leads: the server's version, the database, the schema in which names are looked up first, the
/// role.
pub(crate) struct ServerInfo;

statement!(
    ServerInfo -> (String, String, Option<String>, String): (Text, Text, Nullable<Text>, Text),
    |_, out| {
        out.push_sql(
            "SELECT current_setting('server_version'), current_database()::text, current_schema()::text, \
             current_user::text",
        );
        Ok(())
    }
);
