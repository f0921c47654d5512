//! Runs the implementations ("routes") in turns, and computes medians and ratios of their times.

use std::time::{Duration, Instant};

use crate::{Error, progress::Progress};

/// One way to do the job.
pub trait Route {
    /// What the table calls it.
    fn name(&self) -> &str;

    /// Does the job once. What the route prepares beforehand is not in its time.
    fn run(&mut self) -> Result<Run, Error>;
}

/// One turn of a route.
#[derive(Debug, Default)]
pub struct Run {
    /// From the input to the output.
    pub total: Duration,
    /// Parts of it, in order.
    pub stages: Vec<(&'static str, Duration)>,
    /// What came out; empty when the route does only a part of the job.
    pub output: Vec<u8>,
}

impl Run {
    /// One of the `count` jobs of a turn that are too short to be timed one by one.
    #[must_use]
    pub fn of_each(mut self, count: u32) -> Self {
        self.total /= count;
        self.stages.iter_mut().for_each(|(_, time)| *time /= count);
        self
    }
}

/// Times the parts of a turn.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    lap: Instant,
    stages: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    /// Starts the turn.
    #[must_use]
    pub fn start() -> Self {
        let now = Instant::now();
        Self { started: now, lap: now, stages: Vec::new() }
    }

    /// Ends a part.
    pub fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.stages.push((stage, now - self.lap));
        self.lap = now;
    }

    /// Ends the turn.
    #[must_use]
    pub fn stop(self, output: Vec<u8>) -> Run {
        Run { total: self.started.elapsed(), stages: self.stages, output }
    }
}

/// All rounds of one route.
#[derive(Debug)]
pub struct Timed {
    /// The route's name.
    pub name: String,
    /// Microseconds a turn, round by round.
    pub micros: Vec<f64>,
    /// Microseconds of each part, round by round.
    stages: Vec<(&'static str, Vec<f64>)>,
    /// Size of the output.
    pub output_bytes: usize,
}

impl Timed {
    /// Median microseconds a turn.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(self.micros.iter().copied())
    }

    /// Median microseconds of each part, in order.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.stages.iter().map(|(stage, micros)| (*stage, median(micros.iter().copied())))
    }

    /// How many times longer than `base` this took: the median of the rounds' ratios.
    #[must_use]
    pub fn ratio(&self, base: &Self) -> f64 {
        median(self.micros.iter().zip(&base.micros).map(|(this, base)| this / base))
    }

    /// Does one round: `inner` turns, whose mean counts.
    fn round(&mut self, route: &mut dyn Route, inner: u32) -> Result<(), Error> {
        let mut total = Duration::ZERO;
        let mut stages: Vec<(&'static str, Duration)> = Vec::new();
        for turn in 0..inner {
            let run = route.run()?;
            total += run.total;
            self.output_bytes = run.output.len();
            if turn == 0 {
                stages = run.stages;
            } else {
                stages.iter_mut().zip(run.stages).for_each(|((_, sum), (_, time))| *sum += time);
            }
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(inner);
        self.micros.push(micros(total));
        self.stages.resize_with(stages.len(), || ("", Vec::new()));
        for ((name, all), (stage, time)) in self.stages.iter_mut().zip(stages) {
            *name = stage;
            all.push(micros(time));
        }
        Ok(())
    }
}

/// Lets the routes take turns for `rounds` rounds, after one that does not count. In a round each route runs `inner`
/// times in a row. Each round begins with another route.
pub fn take_turns(
    routes: &mut [Box<dyn Route + '_>],
    rounds: u32,
    inner: u32,
    progress: &mut Progress,
) -> Result<Vec<Timed>, Error> {
    let untimed =
        |route: &dyn Route| Timed { name: route.name().to_owned(), micros: vec![], stages: vec![], output_bytes: 0 };
    let mut all: Vec<Timed> = routes.iter().map(|route| untimed(&**route)).collect();
    for route in &mut *routes {
        untimed(&**route).round(&mut **route, inner)?;
    }
    let mut turns: Vec<_> = routes.iter_mut().zip(&mut all).collect();
    for _ in 0..rounds {
        progress.advance();
        for (route, timed) in &mut turns {
            timed.round(&mut ***route, inner)?;
        }
        // Each turn finds the caches and the heap as the one before it left them, and the same code took up to 9 % longer in
        // first place than in second.
        if let [_, ..] = *turns {
            turns.rotate_left(1);
        }
    }
    drop(turns);
    Ok(all)
}

/// The middle value, or the mean of the two in the middle. 0 for no values.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the part `q` of all values is, between two values in proportion. 0 for no values.
#[must_use]
pub fn quantile(values: impl Iterator<Item = f64>, q: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let position = values.len().saturating_sub(1) as f64 * q;
    let at = |position: f64| values.get(position as usize).copied().unwrap_or_default();
    let (lower, upper) = (at(position.floor()), at(position.ceil()));
    lower + (upper - lower) * position.fract()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    struct Recorded(&'static str, Rc<RefCell<String>>);

    impl Route for Recorded {
        fn name(&self) -> &str {
            self.0
        }

        fn run(&mut self) -> Result<Run, Error> {
            self.1.borrow_mut().push_str(self.0);
            Ok(Run::default())
        }
    }

    #[test]
    fn each_round_begins_with_another_route() {
        let order = Rc::new(RefCell::new(String::new()));
        let mut routes = ["a", "b", "c"].map(|name| Box::new(Recorded(name, order.clone())) as Box<dyn Route>);
        let timed = take_turns(&mut routes, 4, 1, &mut Progress::start("rounds", 4)).unwrap();
        assert_eq!(*order.borrow(), "abc abc bca cab abc".replace(' ', ""));
        assert_eq!(timed.iter().map(|route| &*route.name).collect::<String>(), "abc");
        assert!(timed.iter().all(|route| route.micros.len() == 4));
    }

    #[test]
    fn a_tenth_of_the_values_is_below_the_first_decile() {
        assert_eq!(quantile((0..=10).map(f64::from), 0.1), 1.0);
        assert_eq!(quantile((0..=10).map(f64::from), 0.9), 9.0);
        assert_eq!(quantile([1.0, 2.0].into_iter(), 0.1), 1.1);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
