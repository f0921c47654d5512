//! What the files of a window leave open, and what they hold twice. Pure.

use shared::{
    position::Position,
    rolled::{RolledFile, Window},
};

use super::place::Place;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub place: Place,
    pub rolled: RolledFile,
}

/// The positions in `(after, up_to]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub after: Position,
    pub up_to: Position,
}

/// Positions that no file holds: those after the end of `before`, up to and including the one that `next` begins after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub before: File,
    pub next: File,
}

/// Positions that two files hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    pub file: File,
    pub other: File,
}

impl Gap {
    pub const fn window(&self) -> &Window {
        &self.before.rolled.window
    }

    pub const fn range(&self) -> Range {
        Range { after: self.before.rolled.last, up_to: self.next.rolled.after }
    }
}

impl Overlap {
    pub fn range(&self) -> Range {
        Range { after: self.other.rolled.after, up_to: self.file.rolled.last.min(self.other.rolled.last) }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiling {
    /// The position before the earliest file. Earlier files may have been moved elsewhere, so this is not a gap.
    pub begins_after: Position,
    pub gaps: Vec<Gap>,
    /// A file that overlaps several others is listed with the one that ends last.
    pub overlaps: Vec<Overlap>,
}

/// Sorts the files of one table and shard and compares their ranges. A file that is in two places, because it is being
/// moved, counts once; one that has become two loads counts twice.
pub fn tile(files: &mut Vec<File>) -> Tiling {
    files.sort_unstable_by(|a, b| {
        let range = |file: &File| (file.rolled.after, file.rolled.last);
        // Those that are no load yet come last, so that they are compared with a load.
        let name = |file: &File| (file.place.name.clone(), file.place.load.is_none(), file.place.load);
        range(a).cmp(&range(b)).then_with(|| name(a).cmp(&name(b))).then_with(|| a.place.key.cmp(&b.place.key))
    });
    files.dedup_by(|a, b| {
        let is_one_load = a.place.load == b.place.load || a.place.load.is_none();
        is_one_load && (&a.place.name, &a.rolled) == (&b.place.name, &b.rolled)
    });
    let mut files = files.iter();
    let Some(first) = files.next() else { return Tiling::default() };
    let mut tiling = Tiling { begins_after: first.rolled.after, ..Tiling::default() };
    let mut furthest = first;
    for file in files {
        if file.rolled.after > furthest.rolled.last {
            tiling.gaps.push(Gap { before: furthest.clone(), next: file.clone() });
        } else if file.rolled.after < furthest.rolled.last {
            tiling.overlaps.push(Overlap { file: furthest.clone(), other: file.clone() });
        }
        if file.rolled.last > furthest.rolled.last {
            furthest = file;
        }
    }
    tiling
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use shared::rolled::Reason;

    use super::*;

    /// The position of a sequence number; 0 is the start.
    pub(crate) fn at(number: u64) -> Position {
        Position::of_sequence_number(&number.to_string()).unwrap_or_default()
    }

    /// A file of the records with the numbers `after + 1` to `last`, which arrived a second apart.
    pub(crate) fn rolled(after: u64, last: u64) -> RolledFile {
        let part = |text: &str| text.parse().unwrap();
        let ms = |number: u64| 1_795_183_900_000 + i64::try_from(number).unwrap() * 1_000;
        RolledFile {
            window: Window { stream: part("cubic-kafka"), shard: part("shardId-000000000006"), table: part("sample") },
            after: at(after),
            first: at(after + 1),
            last: at(last),
            count: usize::try_from(last - after).unwrap(),
            oldest_ms: ms(after + 1),
            newest_ms: ms(last),
            reason: Reason::Records,
        }
    }

    fn file(name: impl ToString, after: u64, last: u64) -> File {
        let name = name.to_string();
        let place = Place { bucket: "incoming".into(), key: name.clone(), table: None, name, load: None };
        File { place, rolled: rolled(after, last) }
    }

    fn load(id: u64, file: File) -> File {
        let place =
            Place { bucket: "lake".into(), key: format!("{id}-{}", file.place.name), load: Some(id), ..file.place };
        File { place, ..file }
    }

    fn range(after: u64, up_to: u64) -> Range {
        Range { after: at(after), up_to: at(up_to) }
    }

    fn ranges(tiling: &Tiling) -> [Vec<Range>; 2] {
        [tiling.gaps.iter().map(Gap::range).collect(), tiling.overlaps.iter().map(Overlap::range).collect()]
    }

    #[test]
    fn files_that_follow_each_other_are_green_in_any_order() {
        let mut files = vec![file("c", 20, 30), file("b", 10, 20), file("a", 0, 10)];
        assert_eq!(tile(&mut files), Tiling::default());
        assert_eq!(files.iter().map(|file| file.place.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(tile(&mut Vec::new()), Tiling::default());
    }

    #[test]
    fn a_file_that_is_being_moved_counts_once_and_one_that_has_become_two_loads_twice() {
        let mut copied = file("b", 10, 20);
        copied.place.bucket = "lake".to_owned();
        let moved = load(1201, file("b", 10, 20));
        let mut files = vec![file("a", 0, 10), file("b", 10, 20), moved.clone(), copied, moved.clone()];
        assert_eq!(tile(&mut files), Tiling::default());
        assert_eq!(files, [file("a", 0, 10), moved.clone()]);
        files.extend([load(1300, file("b", 10, 20)), file("b", 10, 20)]);
        assert_eq!(ranges(&tile(&mut files)), [vec![], vec![range(10, 20)]]);
    }

    #[test]
    fn files_that_were_moved_away_before_the_earliest_are_no_gap() {
        let tiling = tile(&mut vec![file("b", 10, 20), file("c", 20, 30)]);
        assert_eq!(tiling, Tiling { begins_after: at(10), ..Tiling::default() });
    }

    #[test]
    fn a_file_inside_another_does_not_hide_the_gap_behind_both() {
        let tiling = tile(&mut vec![file("a", 0, 10), file("inside", 3, 5), file("c", 12, 20)]);
        assert_eq!(ranges(&tiling), [vec![range(10, 12)], vec![range(3, 5)]]);
        assert_eq!(tiling.gaps[0].before.place.key, "a");
    }

    proptest! {
        /// Some files of a chain are removed and others duplicated.
        #[test]
        fn what_is_missing_and_what_is_twice_is_found_exactly(
            chain in prop::collection::vec((1..9_u64, any::<bool>(), 0..3_usize), 1..30),
            order in any::<u64>(),
        ) {
            let (mut files, mut gaps, mut overlaps) = (Vec::new(), Vec::new(), Vec::new());
            let (mut after, mut covered) = (0, None);
            for (length, is_there, copies) in chain {
                let last = after + length;
                if is_there {
                    files.push(file(after, after, last));
                    gaps.extend(covered.filter(|covered| *covered < after).map(|covered| range(covered, after)));
                    covered = Some(last);
                    for copy in 0..copies {
                        files.push(file(format!("{after}-{copy}"), after, last));
                        overlaps.push(range(after, last));
                    }
                }
                after = last;
            }
            let middle = usize::try_from(order).unwrap() % files.len().max(1);
            files.rotate_left(middle);
            prop_assert_eq!(ranges(&tile(&mut files)), [gaps, overlaps]);
        }

        /// Gaps and overlaps of any ranges agree with counting the files of every position.
        #[test]
        fn gaps_and_overlaps_are_those_of_counting(lengths in prop::collection::vec((0..60_u64, 1..12_u64), 1..20)) {
            let mut files: Vec<File> =
                lengths.iter().enumerate().map(|(name, (after, length))| file(name, *after, after + length)).collect();
            let tiling = tile(&mut files);
            let held = |number: u64| {
                lengths.iter().filter(|(after, length)| (after + 1..=after + length).contains(&number)).count()
            };
            let first = lengths.iter().map(|(after, _)| after + 1).min().unwrap();
            let last = lengths.iter().map(|(after, length)| after + length).max().unwrap();
            for number in first..=last {
                let position = at(number);
                let [gaps, overlaps] = ranges(&tiling).map(|ranges| {
                    ranges.iter().filter(|range| range.after < position && position <= range.up_to).count()
                });
                prop_assert_eq!(gaps, usize::from(held(number) == 0), "{}", number);
                prop_assert_eq!(overlaps, held(number).saturating_sub(1), "{}", number);
            }
        }
    }
}
