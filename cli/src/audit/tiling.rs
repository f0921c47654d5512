//! What the files of a window leave open, and what they hold twice. Pure.

use shared::{
    position::Position,
    rolled::{Reason, RolledFile, Window},
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

impl Range {
    pub fn holds(&self, position: Position) -> bool {
        self.after < position && position <= self.up_to
    }
}

/// Positions that no file holds, although one that follows begins after them, or the high-water mark says that they are in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub window: Window,
    pub range: Range,
    /// The file that ends where the gap begins; `None` if no file of the window is there.
    pub before: Option<File>,
    /// The file that begins where the gap ends; `None` if that is the high-water mark.
    pub next: Option<File>,
    /// What lies in it and was landed out of band.
    pub replayed: Vec<Range>,
}

/// Positions that two files hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    pub file: File,
    pub other: File,
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

/// Sorts the files of one table and shard and compares their ranges, also with the high-water mark, which all of them reach together. A file that is in two places, because it is being
/// moved, counts once; one that has become two loads counts twice. Files of what Lambda had given up lie between the records of others, and are compared with each other only.
pub fn tile(window: &Window, files: &mut Vec<File>, mark: Option<Position>) -> Tiling {
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
    let (replayed, files): (Vec<&File>, Vec<&File>) =
        files.iter().partition(|file| file.rolled.reason == Reason::Replay);
    let mut tiling = Tiling::default();
    let mut furthest = None::<&File>;
    for &file in &replayed {
        if let Some(other) = furthest.filter(|other| file.rolled.after < other.rolled.last) {
            tiling.overlaps.push(Overlap { file: other.clone(), other: file.clone() });
        }
        furthest = furthest.into_iter().chain([file]).max_by_key(|file| file.rolled.last);
    }
    let mut files = files.into_iter();
    let gap = |range: Range, before: Option<&File>, next: Option<&File>| {
        let (window, before, next) = (window.clone(), before.cloned(), next.cloned());
        let replayed = replayed.iter().map(|file| Range { after: file.rolled.after, up_to: file.rolled.last });
        let replayed =
            replayed.filter(|replayed| replayed.up_to > range.after && replayed.after < range.up_to).collect();
        (range.after < range.up_to).then_some(Gap { window, range, before, next, replayed })
    };
    let mark = mark.unwrap_or_default();
    let Some(first) = files.next() else {
        let all = gap(Range { after: Position::START, up_to: mark }, None, None);
        return Tiling { gaps: all.into_iter().collect(), ..tiling };
    };
    tiling.begins_after = first.rolled.after;
    let mut furthest = first;
    for file in files {
        let between = Range { after: furthest.rolled.last, up_to: file.rolled.after };
        tiling.gaps.extend(gap(between, Some(furthest), Some(file)));
        if file.rolled.after < furthest.rolled.last {
            tiling.overlaps.push(Overlap { file: furthest.clone(), other: file.clone() });
        }
        if file.rolled.last > furthest.rolled.last {
            furthest = file;
        }
    }
    tiling.gaps.extend(gap(Range { after: furthest.rolled.last, up_to: mark }, Some(furthest), None));
    tiling
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

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

    fn tiled(files: &mut Vec<File>) -> Tiling {
        tile(&rolled(0, 1).window, files, None)
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
        [tiling.gaps.iter().map(|gap| gap.range).collect(), tiling.overlaps.iter().map(Overlap::range).collect()]
    }

    #[test]
    fn files_that_follow_each_other_are_green_in_any_order() {
        let mut files = vec![file("c", 20, 30), file("b", 10, 20), file("a", 0, 10)];
        assert_eq!(tiled(&mut files), Tiling::default());
        assert_eq!(files.iter().map(|file| file.place.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(tiled(&mut Vec::new()), Tiling::default());
    }

    #[test]
    fn a_file_that_is_being_moved_counts_once_and_one_that_has_become_two_loads_twice() {
        let mut copied = file("b", 10, 20);
        copied.place.bucket = "lake".to_owned();
        let moved = load(1201, file("b", 10, 20));
        let mut files = vec![file("a", 0, 10), file("b", 10, 20), moved.clone(), copied, moved.clone()];
        assert_eq!(tiled(&mut files), Tiling::default());
        assert_eq!(files, [file("a", 0, 10), moved.clone()]);
        files.extend([load(1300, file("b", 10, 20)), file("b", 10, 20)]);
        assert_eq!(ranges(&tiled(&mut files)), [vec![], vec![range(10, 20)]]);
    }

    #[test]
    fn files_that_were_moved_away_before_the_earliest_are_no_gap() {
        let tiling = tiled(&mut vec![file("b", 10, 20), file("c", 20, 30)]);
        assert_eq!(tiling, Tiling { begins_after: at(10), ..Tiling::default() });
    }

    #[test]
    fn what_the_high_water_mark_promises_and_no_file_holds_is_a_gap() {
        let window = rolled(0, 1).window;
        let tiling = |files: &[File], mark: u64| tile(&window, &mut files.to_vec(), Some(at(mark)));
        let files = [file("a", 0, 10), file("b", 10, 20)];
        assert_eq!(tiling(&files, 20), Tiling::default());
        assert_eq!(tiling(&files, 10), Tiling::default(), "a file is written before its mark");
        let newest = tiling(&files[..1], 20);
        assert_eq!((ranges(&newest), &newest.gaps[0].next), ([vec![range(10, 20)], vec![]], &None));
        let all = tiling(&[], 20);
        assert_eq!((ranges(&all), &all.gaps[0].before), ([vec![range(0, 20)], vec![]], &None));
    }

    fn replayed(name: &str, after: u64, last: u64) -> File {
        let file = file(name, after, last);
        File { rolled: RolledFile { reason: Reason::Replay, ..file.rolled }, ..file }
    }

    #[test]
    fn what_was_landed_out_of_band_lies_between_the_records_of_others() {
        let files = [file("a", 0, 10), file("b", 10, 20), file("c", 30, 40)];
        let with = |more: &[File]| tiled(&mut [&files[..], more].concat());
        let tiling = with(&[replayed("r", 3, 5), replayed("s", 8, 12), replayed("t", 21, 23)]);
        assert_eq!(ranges(&tiling), [vec![range(20, 30)], vec![]]);
        assert_eq!(tiling.gaps[0].replayed, [range(21, 23)], "what a repair leaves out");
        let twice = with(&[replayed("r", 3, 5), replayed("s", 4, 6)]);
        assert_eq!(ranges(&twice), [vec![range(20, 30)], vec![range(4, 5)]]);
        let alone = tiled(&mut vec![replayed("r", 3, 5), load(1, replayed("r", 3, 5)), load(2, replayed("r", 3, 5))]);
        assert_eq!(ranges(&alone), [vec![], vec![range(3, 5)]], "it has become two loads");
    }

    #[test]
    fn a_file_inside_another_does_not_hide_the_gap_behind_both() {
        let tiling = tiled(&mut vec![file("a", 0, 10), file("inside", 3, 5), file("c", 12, 20)]);
        assert_eq!(ranges(&tiling), [vec![range(10, 12)], vec![range(3, 5)]]);
        assert_eq!(tiling.gaps[0].before.as_ref().unwrap().place.key, "a");
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
            prop_assert_eq!(ranges(&tiled(&mut files)), [gaps, overlaps]);
        }

        /// Gaps and overlaps of any ranges agree with counting the files of every position.
        #[test]
        fn gaps_and_overlaps_are_those_of_counting(lengths in prop::collection::vec((0..60_u64, 1..12_u64), 1..20)) {
            let mut files: Vec<File> =
                lengths.iter().enumerate().map(|(name, (after, length))| file(name, *after, after + length)).collect();
            let tiling = tiled(&mut files);
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
