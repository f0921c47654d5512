//! What a figure should be, and whether it is.

use std::fmt;

/// The bounds that count as met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// As much or more.
    AtLeast(f64),
    /// As much or less.
    AtMost(f64),
}

/// One figure beside its target.
#[derive(Debug)]
pub struct Verdict {
    what: String,
    figure: f64,
    unit: &'static str,
    target: Target,
}

impl Verdict {
    /// `figure` is in the unit of the target; × for a ratio.
    pub fn new(what: impl Into<String>, figure: f64, unit: &'static str, target: Target) -> Self {
        Self { what: what.into(), figure, unit, target }
    }

    /// Whether the target is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.figure >= least,
            Target::AtMost(most) => self.figure <= most,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, figure, unit, target } = self;
        let target = match target {
            Target::AtLeast(least) => format!("≥ {least} {unit}"),
            Target::AtMost(most) => format!("≤ {most} {unit}"),
        };
        let digits = if *figure < 100.0 { 2 } else { 0 };
        let verdict = if self.is_met() { "met" } else { "missed" };
        write!(f, "{what:<70} {figure:>6.digits$} {unit:<3} {target:>9}  {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_the_bound_meets_it() {
        assert!(Verdict::new("speed", 3.0, "×", Target::AtLeast(3.0)).is_met());
        assert!(!Verdict::new("speed", 2.99, "×", Target::AtLeast(3.0)).is_met());
        assert!(Verdict::new("memory", 0.6, "×", Target::AtMost(0.6)).is_met());
        assert!(!Verdict::new("memory", 0.61, "×", Target::AtMost(0.6)).is_met());
    }
}
