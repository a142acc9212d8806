//! What is wrong with a layer, beside the error that a request fails with: it
//! stands in the line that tells of the failure.

use std::cell::RefCell;

thread_local! {
    static WHY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// This thread's request is about to fail because of this.
pub(super) fn because(why: String) {
    WHY.set(Some(why));
}

/// Why this thread's request failed, if more is known than the error; to be asked
/// after each, lest the next one tell what this one got over.
pub fn take() -> Option<String> {
    WHY.take()
}
