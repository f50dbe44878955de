//! The location of a panic. Only the process's panic hook receives it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// The location of the last panic on this thread. The hook writes it, and the code that catches the panic takes it.
    static LAST_LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs a panic hook, once per process, that records the location of each panic and then calls the former hook.
///
/// A hook that is set later and does not call this one leaves panics without a location.
pub(crate) fn note_locations() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let former_hook = take_hook();
        set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            set_location(panic.location().map(ToString::to_string));
            former_hook(panic);
        }));
    });
}

/// Takes the location of the panic that was just caught on this thread.
pub(crate) fn take_location() -> Option<String> {
    LAST_LOCATION.try_with(|place| place.try_borrow_mut().ok()?.take()).ok().flatten()
}

/// Sets the location of a panic that came from another thread.
pub(crate) fn set_location(place: Option<String>) {
    let _ = LAST_LOCATION.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = place;
        }
    });
}

/// Describes the panic that was just caught on this thread, in words that follow its subject.
pub(crate) fn describe(panic: &(dyn Any + Send)) -> String {
    let location = take_location().map(|location| format!(" at {location}")).unwrap_or_default();
    format!("panicked{location}: {}", message(panic))
}

/// The message of a panic, if it was raised with a text.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the panic message is not text".to_owned())
}
