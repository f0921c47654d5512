//! Processes that are measured from outside.

use std::process::Child;

use crate::Error;

/// A process that does not outlive its owner.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// The most memory it has had so far, in MiB.
    pub fn peak_mib(&self) -> Result<f64, Error> {
        peak_mib(&format!("/proc/{}/status", self.0.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// The most memory this process has had so far, in MiB.
pub fn own_peak_mib() -> Result<f64, Error> {
    peak_mib("/proc/self/status")
}

/// `VmHWM` belongs to the program alone; what `getrusage` says may still be of the one that started it.
fn peak_mib(status: &str) -> Result<f64, Error> {
    let status = std::fs::read_to_string(status)?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
