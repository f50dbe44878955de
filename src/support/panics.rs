//! Where a panic happened. Only the process's panic hook is told.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// The place of the last panic on this thread: written by the hook, taken by whoever catches the panic there.
    static LAST_LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has the process's panic hook note the place of each panic before it does what it did before. Once for a process; a
/// hook that is set later and does not call this one leaves panics without a place.
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

/// The place of the panic that was just caught on this thread.
pub(crate) fn take_location() -> Option<String> {
    LAST_LOCATION.try_with(|place| place.try_borrow_mut().ok()?.take()).ok().flatten()
}

/// For a panic that is carried here from another thread.
pub(crate) fn set_location(place: Option<String>) {
    let _ = LAST_LOCATION.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = place;
        }
    });
}

/// The message of a panic: what `panic!` was given, if that was text.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "its message is not text".to_owned())
}
