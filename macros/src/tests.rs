//! Tests the refusals of the attributes. The tests and examples of `procrastinate` cover what they accept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use syn::ItemFn;

use crate::options::Options;
use crate::task::expand;

/// The error of the attribute on this function, or an empty text.
fn refusal(options: &str, function: &str) -> String {
    let expanded = syn::parse_str::<Options>(options)
        .and_then(|options| expand(&options, syn::parse_str::<ItemFn>(function).unwrap()));
    expanded.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn an_unsuitable_function_is_refused_with_the_rule() {
    for (function, expected) in [
        ("async fn f<T>(a: T) {}", "a task must not be generic, because jobs store values, not types"),
        ("fn f(&self) {}", "a task must be a free function without `self`"),
        ("fn f(a: &str) {}", "an argument of a task must be an owned value, such as `String` instead of `&str`"),
        ("fn f((a, b): (i64, i64)) {}", "an argument of a task must have a name, because jobs store arguments by name"),
        ("fn f(_: i64) {}", "an argument of a task must have a name, because jobs store arguments by name"),
        ("fn f(a: impl Clone) {}", "an argument of a task must have a named type instead of `impl Trait`"),
        ("unsafe fn f() {}", "a task must not be unsafe"),
        ("extern \"C\" fn f() {}", "a task must be an ordinary Rust function"),
    ] {
        assert_eq!(refusal("", function), expected, "{function}");
    }
}

#[test]
fn an_invalid_option_is_refused_with_the_rule() {
    for (options, expected) in [
        (
            "que = \"a\"",
            "unknown option `que`; the options are: name, namespace, aliases, queue, priority, lock, queueing_lock, limit_key, \
             start_within, unique, unique_for, if_enqueued, retry, timeout, stalled, middleware, unless_enqueued, pass_context, crate",
        ),
        ("queue = \"\"", "the queue must not be empty"),
        ("aliases = \"a\"", "expected square brackets"),
        ("aliases = [a]", "an alias must be a name in quotation marks"),
        ("aliases = [\"a\", \"\"]", "the alias must not be empty"),
        ("name = \"a\\0\"", "must not contain the NUL character, which PostgreSQL cannot store"),
        ("queue = \"a\", queue = \"b\"", "this option must be set only once"),
        ("queue = 5", "expected string literal"),
        ("timeout = \"0s\"", "the timeout must be greater than zero"),
        (
            "timeout = \"30\"",
            "the timeout must be a duration such as \"30s\", \"5min\" or \"1h 30min\": time unit needed, for example 30sec or 30ms",
        ),
        ("start_within = \"0s\"", "the time to start must be greater than zero"),
        ("unique_for = \"1h\"", "`unique_for` must be combined with a unique key; add `unique = \"…\"`"),
        (
            "unique = \"a\", if_enqueued = \"replace\"",
            "`if_enqueued` must be combined with a queueing lock; add `queueing_lock = \"…\"`",
        ),
        ("stalled = \"again\"", "`stalled` must be \"retry\", \"fail\" or \"leave\", not \"again\""),
        ("middleware = logged", "expected square brackets"),
        (
            "lock = \"a\", unless_enqueued",
            "`unless_enqueued` must be combined with a queueing lock; add `queueing_lock = \"…\"`",
        ),
        (
            "if_enqueued = \"replace\"",
            "`if_enqueued` must be combined with a queueing lock; add `queueing_lock = \"…\"`",
        ),
        (
            "queueing_lock = \"a\", if_enqueued = \"debounce\"",
            "`if_enqueued` must be \"fail\", \"keep\", \"replace\" or \"replace_except_schedule\", not \"debounce\"",
        ),
        (
            "queueing_lock = \"a\", unless_enqueued, if_enqueued = \"keep\"",
            "`unless_enqueued` is the same as `if_enqueued = \"keep\"`; remove one of them",
        ),
    ] {
        assert_eq!(refusal(options, "fn f() {}"), expected, "{options}");
    }
    let long = format!("name = \"{}\"", "x".repeat(129));
    assert_eq!(refusal(&long, "fn f() {}"), "the name must be at most 128 bytes, but is 129");
    assert_eq!(
        refusal("pass_context", "fn f() {}"),
        "with `pass_context`, the first parameter must be the `JobContext`"
    );
}

#[test]
fn a_suitable_function_is_accepted() {
    let options = "name = \"shop.mail\", aliases = [\"mail\", \"shop.post\"], queue = \"mails\", priority = -5, \
         lock = \"l\", queueing_lock = \"q\", pass_context, timeout = \"1h 30min\", \
         limit_key = \"{a}\", start_within = \"2h\", unique = \"{a}\", unique_for = DAY, stalled = \"leave\", middleware = [a, b(3)]";
    assert_eq!(
        refusal(options, "pub(crate) async fn f(context: JobContext, mut a: i64) -> Result<(), E> { Ok(()) }"),
        ""
    );
    assert_eq!(refusal("crate = queue::inner", "fn f(r#type: Vec<String>) {}"), "");
}

#[test]
fn an_invalid_placeholder_in_a_lock_is_refused_with_the_rule() {
    let function = "fn f(order: Order, r#type: u8) {}";
    for (lock, expected) in [
        ("{ordre}", "the task has no argument `ordre`; its arguments are: order, type"),
        ("{self}", "the task has no argument `self`; its arguments are: order, type"),
        ("{order", "a placeholder must end with `}`; write `{{` for the character itself"),
        ("order}", "a `}` must follow a placeholder; write `}}` for the character itself"),
        ("{order:width$}", "the format of a placeholder must not refer to another argument"),
        ("{}", PLACEHOLDER),
        ("{:05}", PLACEHOLDER),
        ("{0}", PLACEHOLDER),
        ("{order.}", PLACEHOLDER),
        ("{order.name()}", PLACEHOLDER),
        ("{order.customer.0:?} {type} {r#type:>5}", ""),
        ("{{order}} }}{{", ""),
    ] {
        let rule = refusal(&format!("queueing_lock = \"{lock}\""), function);
        let expected =
            if expected == PLACEHOLDER { expected.replace("PATH", path_in(lock)) } else { expected.to_owned() };
        assert_eq!(rule, expected, "{lock}");
    }
    assert_eq!(refusal("lock = \"{a}\"", "fn f() {}"), "the task has no argument `a`; it has none");
}

const PLACEHOLDER: &str = "the placeholder `{PATH}` must name an argument, as in `{order}`, or a field of one, as in \
                           `{order.customer}`";

fn path_in(lock: &str) -> &str {
    lock.trim_matches(['{', '}']).split(':').next().unwrap()
}

/// The error of this schedule on a task with two arguments, or an empty text.
fn refusal_of_periodic(periodic: &str) -> String {
    let function =
        format!("#[periodic({periodic})] async fn f(timestamp: i64, customer: String, note: Option<String>) {{}}");
    refusal("", &function)
}

#[test]
fn an_invalid_schedule_is_refused_with_the_rule() {
    for (periodic, expected) in [
        ("periodic_id = \"a\"", "the schedule is missing; add `cron = \"…\"` or `every = \"…\"`"),
        ("cron = \"@daily\"", "the argument `customer` is missing; add `args(customer = …)`"),
        ("cron = \"@daily\", args(customer = \"a\", color = 5)", "the task has no argument `color`"),
        (
            "cron = \"@daily\", args(customer = \"a\", timestamp = 5)",
            "the argument `timestamp` must not be set, because it is the tick",
        ),
        ("cron = \"@daily\", cron = \"@hourly\"", "a schedule must have one `cron` or one `every`, not several"),
        ("cron = \"@daily\", every = \"1h\"", "a schedule must have one `cron` or one `every`, not several"),
        ("every = \"0s\"", "the interval must be greater than zero"),
        ("every = \"1h\"", "the argument `customer` is missing; add `args(customer = …)`"),
        ("every = Duration::from_secs(5), args(customer = name())", ""),
        ("cron = \"@daily\", queue = \"a\", queue = \"b\"", "this option must be set only once"),
        ("cron = \"@daily\", queue = \"\"", "the queue must not be empty"),
        (
            "cron = \"@daily\", lock = \"{customer}\"",
            "the lock of a schedule must not contain arguments; write their values, or set it on the task",
        ),
        (
            "cron = \"@daily\", id = \"a\"",
            "unknown option `id`; the options are: cron, every, args, periodic_id, queue, lock, queueing_lock, limit_key, \
             time_zone, priority, start_within, max_delay, missed, overlap",
        ),
        ("cron = \"@daily\", args(customer = name()), priority = -5,", ""),
    ] {
        assert_eq!(refusal_of_periodic(periodic), expected, "{periodic}");
    }
}

#[test]
fn a_schedule_of_a_task_with_a_conditional_argument_is_refused() {
    let function = "#[periodic(cron = \"@daily\")] async fn f(timestamp: i64, #[cfg(unix)] note: Option<String>) {}";
    let expected = "a task with `#[periodic]` must not have the argument `note` only with a `#[cfg]`";
    assert_eq!(refusal("", function), expected);
}

#[test]
fn a_schedule_without_a_task_is_refused() {
    use crate::periodic::leave_to_task;

    let function = |text: &str| syn::parse_str::<ItemFn>(text).unwrap();
    let error = leave_to_task(&quote::quote!(cron = "@daily"), function("async fn f() {}")).unwrap_err();
    assert_eq!(error.to_string(), "`#[periodic]` must be used together with `#[task]`; add `#[task]` to this function");
    let left = leave_to_task(&quote::quote!(cron = "@daily"), function("#[procrastinate::task] fn f() {}")).unwrap();
    assert_eq!(left.to_string(), "# [procrastinate :: task] # [periodic (cron = \"@daily\")] fn f () { }");
}

#[test]
fn a_function_in_an_impl_is_noticed() {
    use crate::place::is_position_in_impl;

    // The function is where the dollar sign is.
    for (source, expected) in [
        ("$", false),
        ("impl A { $", true),
        ("impl A { fn a() {}\n const X: [u8; 2] = [0; 2];\n    $", true),
        ("#[cfg(any())]\nunsafe impl<'a, T: Into<&'a str>> B for [T; 3]\nwhere T: Copy\n{ $", true),
        ("/// Its {\n#[doc = \"{ impl\"] pub(crate) trait T: 'static {\n    $", true),
        ("impl A { fn a() { $", false),
        ("impl A { fn a() -> impl Fn() { || {} } }\n$", false),
        ("fn a() -> impl Fn() {\n    $", false),
        ("mod implementation { $", false),
        ("const A: &str = \"impl A {\"; $", false),
        ("const A: &str = r#\"\" impl A {\"#; $", false),
        ("const A: char = '{'; const B: char = '\\''; mod a { impl A {} $", false),
        ("/* impl A { /* */ */ $", false),
        ("impl A { mod b { $", false),
        ("impl r#type { const B: &'static [u8] = b\"}\\\"}\"; $", true),
    ] {
        let before = source.trim_end_matches('$');
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!(is_position_in_impl(source, line, column), expected, "{source}");
    }
}
