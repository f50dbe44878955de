//! Every statement of the crate, as a value.
//!
//! A statement is a struct with its bound values, and has one row type. It has a static `QueryId`, so each connection
//! prepares it once. A statement with optional filters contains only those that are set, and is cached by its SQL.

#[cfg(feature = "admin")]
pub(crate) mod actions;
#[cfg(feature = "admin")]
pub(crate) mod admin;
pub(crate) mod ageing;
#[cfg(any(feature = "cli", feature = "admin"))]
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the admin pages need a part of it"))]
pub(crate) mod cli;
pub(crate) mod defer;
#[cfg(any(feature = "cli", feature = "admin"))]
pub(crate) mod explain;
pub(crate) mod finish_and_fetch;
pub(crate) mod flow_control;
pub(crate) mod inspect;
pub(crate) mod manage;
pub(crate) mod options;
pub(crate) mod periodic;
pub(crate) mod rescue;
pub(crate) mod schedules;
pub(crate) mod workers;

use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};

/// A statement with its bound values.
pub(crate) trait Statement: Query + QueryFragment<Pg> + QueryId + Send + Sync + 'static {
    /// The type of its rows.
    type Row: FromSqlRow<Self::SqlType, Pg> + Send + 'static;

    /// The action in errors: *could not …*.
    const ACTION: &'static str;

    /// The name of the statement, for tests that inspect statements.
    #[cfg(feature = "testing")]
    const NAME: &'static str;
}

/// Declares a statement. It calls one SQL function with the fields of the statement (`select … from …`), or a closure
/// writes its SQL. With `filtered`, that SQL depends on the filters that are set.
macro_rules! statement {
    (
        $action:literal: $statement:ident -> $row:ty: $sql_type:ty,
        select $columns:tt from $function:literal($($($field:ident).+: $type:ty $(as $cast:literal)?),*)
    ) => {
        crate::database::statements::statement!($action: $statement -> $row: $sql_type, |_statement, out| {
            out.push_sql("SELECT ");
            out.push_sql($columns);
            out.push_sql(concat!(" FROM ", $function, "("));
            let mut _separator = "";
            $(
                out.push_sql(_separator);
                out.push_bind_param::<$type, _>(&_statement.$($field).+)?;
                $(out.push_sql(concat!("::", $cast));)?
                _separator = ", ";
            )*
            out.push_sql(")");
            Ok(())
        });
    };
    ($action:literal: $statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        crate::database::statements::statement!(@ true, $action, $statement -> $row: $sql_type, $write);
    };
    (filtered $action:literal: $statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        crate::database::statements::statement!(@ false, $action, $statement -> $row: $sql_type, $write);
    };
    (@ $is_static:literal, $action:literal, $statement:ident -> $row:ty: $sql_type:ty, $write:expr) => {
        impl diesel::query_builder::QueryId for $statement {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = $is_static;
        }

        impl diesel::query_builder::Query for $statement {
            type SqlType = $sql_type;
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $statement {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::result::QueryResult<()> {
                let write: fn(
                    &'b $statement,
                    &mut diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
                ) -> diesel::result::QueryResult<()> = $write;
                write(self, &mut out)
            }
        }

        impl crate::database::statements::Statement for $statement {
            type Row = $row;
            const ACTION: &'static str = $action;

            #[cfg(feature = "testing")]
            const NAME: &'static str = stringify!($statement);
        }
    };
}
pub(crate) use statement;
