//! The name of a migration.

/// Whether a migration must wait until the old version of the program is gone.
///
/// The name of its directory then has `post_` or `procrastinate_post_` after the version.
pub(super) fn is_post(name: &str) -> bool {
    let words = name.split_once('_').map_or("", |(_, words)| words);
    words.strip_prefix("procrastinate_").unwrap_or(words).starts_with("post_")
}

/// Whether a version can belong to a migration of the queue. They sort before all dates.
pub(super) fn is_of_queue(version: &str) -> bool {
    version.starts_with("000000000") && version > "00000000030000"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_the_queue_are_told_apart_from_dates() {
        for (version, expected) in [
            ("00000000031014", true),
            ("00000000099999", true),
            // The first migration of `diesel setup`.
            ("00000000000000", false),
            ("20260101000000", false),
            ("1", false),
        ] {
            assert_eq!(is_of_queue(version), expected, "{version}");
        }
    }

    #[test]
    fn a_migration_named_post_must_wait() {
        for name in
            ["00000000032050_procrastinate_post_drop_old", "2026-01-01-000000_post_drop", "20260101000000_post_a"]
        {
            assert!(is_post(name), "{name}");
        }
        for name in [
            "00000000032001_procrastinate_add",
            "00000000032001_procrastinate_pre_add",
            "2026-01-01-000000_posts",
            "2026-01-01-000000_create_post_table",
            "20260101000000",
            "",
        ] {
            assert!(!is_post(name), "{name}");
        }
    }
}
