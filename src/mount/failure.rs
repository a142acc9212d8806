//! Why there is no mount: one line, and the exit code that mount(8) gives it.

use std::fmt;

/// An error that ends the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// mount(8)'s exit code.
    pub code: u8,
    /// One line, lower case: what and why.
    pub text: String,
}

impl Failure {
    /// The call cannot be understood.
    pub fn usage(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure { code: 1, text }
    }

    /// The system did not give what every mount needs.
    pub fn system(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure { code: 2, text }
    }

    /// This mount cannot be made.
    pub fn mount(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure { code: 32, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
