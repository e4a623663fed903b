//! Several threads against one: same flows, same books, same damage, and an end whatever happens.

use std::convert::Infallible;

use ml_ids_common::Counters;

use super::*;

/// A pcap of UDP packets in raw IP, each of another flow, `size` bytes long, and every third one followed by an
/// answer. Larger than a few chunks.
fn capture(packets: u32, size: u16) -> Vec<u8> {
    let mut file = [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 0, 4, 0, 101, 0, 0, 0]].concat();
    for number in 0..packets {
        let [_, high, middle, low] = number.to_be_bytes();
        let (client, server) = ([10, high, middle, low], [192, 0, 2, 1]);
        let answer = (number % 3 == 0).then_some((server, client));
        for (from, to) in [(client, server)].into_iter().chain(answer) {
            // Two minutes apart, and each client comes twice.
            let seconds = number / 64 * 121;
            file.extend([seconds, number, size.into(), size.into()].iter().flat_map(|word| word.to_le_bytes()));
            let mut packet = vec![0; size.into()];
            packet[..4].copy_from_slice(&[0x45, 0, (size >> 8) as u8, size as u8]);
            packet[9] = 17;
            packet[12..20].copy_from_slice(&[from, to].concat());
            file.extend(packet);
        }
    }
    file
}

/// Source, start and packets of each flow in order, the books, and what was wrong.
type Replayed = (Vec<(String, u64, u32)>, Counters, Option<String>);

fn fact(record: &FlowRecord) -> (String, u64, u32) {
    (format!("{:?}", record.source()), record.state().start_us, record.state().packets())
}

fn on_one_thread(file: &[u8], profile: Profile) -> Replayed {
    let (mut capture, mut replay, mut flows) = (Capture::new(file).unwrap(), Replay::new(profile), Vec::new());
    let damage = crate::offline::replay(&mut capture, &mut replay, |record| {
        flows.push(fact(&record));
        Ok::<_, Infallible>(())
    });
    let Ok(damage) = damage;
    (flows, *replay.counters(), damage.map(|error| error.to_string()))
}

fn on_threads(file: &[u8], profile: Profile, jobs: usize, batch: usize, any_reads: bool) -> Replayed {
    let (capture, mut replay, mut flows) = (Capture::new(file).unwrap(), Replay::new(profile), Vec::new());
    let rest = &file[file.len().min(CHUNK_SIZE)..];
    let read_at = |space: &mut [u8], offset: u64| {
        // Less than asked for, as the system may give.
        let limit = space.len().min(100_000);
        rest.get(offset as usize..).unwrap_or_default().read(&mut space[..limit])
    };
    let jobs = NonZeroUsize::new(jobs).unwrap();
    let options = Options { jobs, read_at: any_reads.then_some(&read_at), batch };
    let damage = super::replay(
        capture,
        &mut replay,
        &options,
        |records| records.iter().map(fact).collect::<Vec<_>>(),
        |facts| {
            assert!((1..=batch).contains(&facts.len()));
            flows.extend(facts);
            Ok::<_, Infallible>(())
        },
    );
    let Ok(damage) = damage;
    (flows, *replay.counters(), damage.map(|error| error.to_string()))
}

#[test]
fn any_number_of_threads_gives_the_flows_the_books_and_the_damage_of_one() {
    let mut damaged = capture(9000, 300);
    damaged.truncate(damaged.len() - 7);
    let mut oversized = capture(9000, 300);
    oversized.extend([[0; 4], [0; 4], [0xff; 4], [0xff; 4]].concat());
    for file in [capture(9000, 300), capture(70_000, 28), capture(100, 65_000), capture(0, 0), damaged, oversized] {
        for profile in Profile::ALL {
            let expected = on_one_thread(&file, profile);
            for (jobs, batch, any_reads) in [(1, 64, true), (2, 64, true), (2, 1, false), (5, 1000, true)] {
                let replayed = on_threads(&file, profile, jobs, batch, any_reads);
                assert!(replayed == expected, "{} bytes, {profile:?}, {jobs} jobs", file.len());
            }
        }
    }
}

#[test]
fn the_first_error_from_the_receiver_stops_everything() {
    let file = capture(70_000, 28);
    for jobs in [1, 3] {
        let options = Options { jobs: NonZeroUsize::new(jobs).unwrap(), read_at: None, batch: 10 };
        let mut replay = Replay::new(Profile::Fixed);
        let mut batches = 0;
        let stopped = super::replay(
            Capture::new(&file[..]).unwrap(),
            &mut replay,
            &options,
            |_| (),
            |()| {
                batches += 1;
                if batches == 3 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!(stopped.unwrap_err(), "enough");
        assert_eq!(batches, 3);
    }
}

#[test]
#[should_panic(expected = "cannot digest")]
fn a_panic_in_a_helper_ends_the_replay() {
    let file = capture(70_000, 28);
    let options = Options { jobs: NonZeroUsize::new(2).unwrap(), read_at: None, batch: 10 };
    let caller = thread::current().id();
    let digest = |_| assert!(thread::current().id() == caller, "cannot digest");
    // On a busy core the helper may come too late for one replay, and for the next.
    for _ in 0..100 {
        let mut replay = Replay::new(Profile::Fixed);
        let emit = |()| Ok::<_, Infallible>(());
        let Ok(_) = super::replay(Capture::new(&file[..]).unwrap(), &mut replay, &options, digest, emit);
    }
    panic!("the helper's panic was lost, or it did nothing a hundred times");
}
