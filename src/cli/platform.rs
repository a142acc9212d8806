//! `--platform`, and what is meant where it is not given.

use crate::store::document::Platform;
use crate::store::error::{Result, invalid};
use std::env::{VarError, var};

/// What docker's users set for all that gets or makes images.
const VARIABLE: &str = "DOCKER_DEFAULT_PLATFORM";

/// What the option says; an empty text says nothing.
///
/// # Errors
/// For what is no platform.
pub(super) fn given(option: Option<&str>) -> Result<Option<Platform>> {
    let text = option.filter(|text| !text.is_empty());
    text.map(Platform::parse).transpose()
}

/// The same; without the option the environment says it.
///
/// # Errors
/// As [`given`].
pub(super) fn wanted(option: Option<&str>) -> Result<Option<Platform>> {
    if option.is_some() {
        return given(option);
    }
    match var(VARIABLE) {
        Ok(text) => match given(Some(&text)) {
            Err(e) => invalid(format!("{VARIABLE}: {e}")),
            known => known,
        },
        Err(VarError::NotPresent) => Ok(None),
        Err(e) => invalid(format!("{VARIABLE}: {e}")),
    }
}
