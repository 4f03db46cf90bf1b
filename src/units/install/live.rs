//! What an install asks of a running systemd; the real one speaks D-Bus and lives elsewhere.

use std::path::Path;

/// Why systemd, or a tool of it, did not do its part: its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LiveError(pub String);

/// The live part of an install. Every call waits for its end, with a deadline of its own.
pub trait Live {
    /// Makes the system user that this file declares (`systemd-sysusers FILE`). An existing one is no error.
    ///
    /// # Errors
    /// The tool failed.
    fn sysusers(&self, conf: &Path) -> Result<(), LiveError>;
    /// One daemon-reload.
    ///
    /// # Errors
    /// systemd refused or did not end it.
    fn daemon_reload(&self) -> Result<(), LiveError>;
    /// `EnableUnitFiles` of this unit. An enabled one is no error.
    ///
    /// # Errors
    /// systemd refused.
    fn enable(&self, unit: &str) -> Result<(), LiveError>;
    /// `DisableUnitFiles` of this unit. One that is not enabled is no error.
    ///
    /// # Errors
    /// systemd refused.
    fn disable(&self, unit: &str) -> Result<(), LiveError>;
    /// Starts a unit and waits. A running one is no error.
    ///
    /// # Errors
    /// It did not start.
    fn start(&self, unit: &str) -> Result<(), LiveError>;
    /// Restarts a unit and waits.
    ///
    /// # Errors
    /// It did not start again.
    fn restart(&self, unit: &str) -> Result<(), LiveError>;
    /// The names of the loaded units that match one of these patterns and are neither inactive nor failed.
    ///
    /// # Errors
    /// systemd did not answer.
    fn running(&self, patterns: &[String]) -> Result<Vec<String>, LiveError>;
    /// Stops these units, one after another in this order, waits for each, and resets those that failed. A name may
    /// be a glob (`shop-api@*.service`): all loaded units that match. One that is not loaded is no error.
    ///
    /// # Errors
    /// One of them is still running.
    fn stop(&self, units: &[String]) -> Result<(), LiveError>;
    /// Removes a system user and its group. One that does not exist is no error.
    ///
    /// # Errors
    /// It still exists.
    fn remove_user(&self, name: &str) -> Result<(), LiveError>;
}
