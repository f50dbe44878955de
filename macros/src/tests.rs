//! What the attribute refuses, and in which words. What it accepts is used by the tests and examples of `procrastinate`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use syn::ItemFn;

use crate::options::Options;
use crate::task::expand;

/// The error of this attribute on this function, or nothing.
fn refusal(options: &str, function: &str) -> String {
    let expanded = syn::parse_str::<Options>(options)
        .and_then(|options| expand(&options, syn::parse_str::<ItemFn>(function).unwrap()));
    expanded.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_function_that_cannot_be_a_task_is_refused_in_plain_words() {
    for (function, expected) in [
        ("async fn f<T>(a: T) {}", "a task cannot be generic: a job carries values, not types"),
        ("fn f(&self) {}", "a task is a free function, without `self`"),
        ("fn f(a: &str) {}", "a task owns its arguments: take a `String` instead of a `&str`, say"),
        ("fn f((a, b): (i64, i64)) {}", "give this argument a name: jobs carry arguments by name"),
        ("fn f(_: i64) {}", "give this argument a name: jobs carry arguments by name"),
        ("fn f(a: impl Clone) {}", "name the type: a job carries values of one type"),
        ("unsafe fn f() {}", "a task cannot be unsafe"),
        ("extern \"C\" fn f() {}", "a task is an ordinary Rust function"),
    ] {
        assert_eq!(refusal("", function), expected, "{function}");
    }
}

#[test]
fn an_option_that_cannot_be_is_refused_in_plain_words() {
    for (options, expected) in [
        (
            "que = \"a\"",
            "unknown option `que`; there are: name, namespace, aliases, queue, priority, lock, queueing_lock, retry, \
             timeout, stalled, middleware, pass_context, crate",
        ),
        ("queue = \"\"", "the queue must not be empty"),
        ("aliases = \"a\"", "expected square brackets"),
        ("aliases = [a]", "an alias is a name in quotation marks"),
        ("aliases = [\"a\", \"\"]", "the alias must not be empty"),
        ("name = \"a\\0\"", "PostgreSQL cannot store the NUL character"),
        ("queue = \"a\", queue = \"b\"", "this option is given twice"),
        ("queue = 5", "expected string literal"),
        ("timeout = \"0s\"", "a task needs longer than nothing"),
        (
            "timeout = \"30\"",
            "this is no duration such as \"30s\", \"5min\" or \"1h 30min\": time unit needed, for example 30sec or 30ms",
        ),
        ("stalled = \"again\"", "`stalled` is \"retry\", \"fail\" or \"leave\", not \"again\""),
        ("middleware = logged", "expected square brackets"),
    ] {
        assert_eq!(refusal(options, "fn f() {}"), expected, "{options}");
    }
    let long = format!("name = \"{}\"", "x".repeat(129));
    assert_eq!(refusal(&long, "fn f() {}"), "the name has 129 bytes, and 128 are allowed");
    assert_eq!(refusal("pass_context", "fn f() {}"), "with `pass_context` the first parameter is the `JobContext`");
}

#[test]
fn what_can_be_a_task_is_accepted() {
    let options = "name = \"shop.mail\", aliases = [\"mail\", \"shop.post\"], queue = \"mails\", priority = -5, lock = \"l\", queueing_lock = \"q\", pass_context, timeout = \"1h 30min\", \
         stalled = \"leave\", middleware = [a, b(3)]";
    assert_eq!(
        refusal(options, "pub(crate) async fn f(context: JobContext, mut a: i64) -> Result<(), E> { Ok(()) }"),
        ""
    );
    assert_eq!(refusal("crate = queue::inner", "fn f(r#type: Vec<String>) {}"), "");
}

/// The error of these lines above a task with two arguments, or nothing.
fn refusal_of_periodic(periodic: &str) -> String {
    let function =
        format!("#[periodic({periodic})] async fn f(timestamp: i64, customer: String, note: Option<String>) {{}}");
    refusal("", &function)
}

#[test]
fn a_schedule_that_cannot_be_is_refused_in_plain_words() {
    for (periodic, expected) in [
        ("periodic_id = \"a\"", "when? Give `cron = \"…\"`"),
        ("cron = \"@daily\"", "the argument `customer` is missing: give `args(customer = …)`"),
        ("cron = \"@daily\", args(customer = \"a\", color = 5)", "the task has no argument `color`"),
        (
            "cron = \"@daily\", args(customer = \"a\", timestamp = 5)",
            "the argument `timestamp` is the time of the tick",
        ),
        ("cron = \"@daily\", cron = \"@hourly\"", "this option is given twice"),
        ("cron = \"@daily\", queue = \"a\", queue = \"b\"", "this option is given twice"),
        ("cron = \"@daily\", queue = \"\"", "the queue must not be empty"),
        (
            "cron = \"@daily\", id = \"a\"",
            "unknown option `id`; there are: cron, args, periodic_id, queue, lock, queueing_lock, time_zone, priority, \
             max_delay, missed",
        ),
        ("cron = \"@daily\", args(customer = name()), priority = -5,", ""),
    ] {
        assert_eq!(refusal_of_periodic(periodic), expected, "{periodic}");
    }
}

#[test]
fn a_schedule_needs_a_task_beside_it() {
    use crate::periodic::leave_to_task;

    let function = |text: &str| syn::parse_str::<ItemFn>(text).unwrap();
    let error = leave_to_task(&quote::quote!(cron = "@daily"), function("async fn f() {}")).unwrap_err();
    assert_eq!(error.to_string(), "`#[periodic]` stands beside `#[task]`: this function needs that one as well");
    let left = leave_to_task(&quote::quote!(cron = "@daily"), function("#[procrastinate::task] fn f() {}")).unwrap();
    assert_eq!(left.to_string(), "# [procrastinate :: task] # [periodic (cron = \"@daily\")] fn f () { }");
}
