//! Configuration files: whatever the text is, it sets options, or everything that is wrong has its line and its words.

use ml_ids::cli::check_configuration;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "config",
    about: "text of configuration files through reader and option table",
    run,
    longest: 4096,
    words: &[
        b"[run]\n",
        b"[run.alert-severity]\n",
        b"[serve]\n",
        b"[[run]]\n",
        b"listen = \"127.0.0.1:0\"\n",
        b"interface = [",
        b"block = true\n",
        b"max-flows = ",
        b"\"\"\"",
        b"'''",
        b"1979-05-27T07:32:00Z",
        b"0x",
        b"inf",
        b"\\uD800",
        b"= {a = {a = {a = ",
        b"http://a:b@c/",
        b"\0",
        b"\r\n",
    ],
    seeds: &[],
};

fn run(data: &[u8]) {
    // A file of other bytes is refused before it gets here.
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').count();
    let Err(problems) = check_configuration(&text) else { return };
    assert!(!problems.is_empty(), "refused, and nothing is wrong");
    for problem in &problems {
        let (line, what) = problem.split_once(": ").expect("a problem has a place and words");
        let line: usize = line.trim_start_matches("line ").parse().expect("a problem has a line");
        assert!((1..=lines).contains(&line), "{problem:?} in a file of {lines} lines");
        assert!(!what.is_empty(), "a problem without words in line {line}");
    }
}
