//! Models that come, change, are refused and are away.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use prost::Message as _;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use super::*;
use crate::model::{
    FetchError, RemoteOptions,
    remote::site::{Site, answer},
    testing::sound,
};

/// A sound model of this version.
fn model(version: &str) -> ModelProto {
    with(sound(), "ml_ids.version", version)
}

fn with(mut model: ModelProto, key: &str, value: &str) -> ModelProto {
    let entry: &mut StringStringEntryProto = model.metadata_props.iter_mut().find(|entry| entry.key == key).unwrap();
    entry.value = value.to_owned();
    model
}

fn options(source: &str, cache: Option<&Path>) -> KeeperOptions {
    KeeperOptions {
        source: source.parse().unwrap(),
        fetcher: Arc::new(Fetcher::new(RemoteOptions::default())),
        load: LoadOptions::default(),
        cache: cache.map(|folder| Cache::new(folder.to_owned())),
    }
}

fn start(source: &str, cache: Option<&Path>) -> Result<Keeper, ModelError> {
    Keeper::start(options(source, cache), &|_, _| {})
}

fn version(keeper: &Keeper) -> String {
    keeper.handle().current().model.version().to_owned()
}

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(model: &ModelProto) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let file = Self { _folder: folder, path };
        file.write(model.encode_to_vec());
        file
    }

    /// By renaming, so that each is a file of its own.
    fn write(&self, bytes: impl AsRef<[u8]>) {
        let new = self.path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &self.path).unwrap();
    }

    fn keeper(&self) -> Keeper {
        start(self.path.to_str().unwrap(), None).unwrap()
    }
}

#[test]
fn another_model_is_swapped_in_once_and_told() {
    let file = File::new(&model("1"));
    let keeper = file.keeper();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    keeper.on_change(move |live| listener.lock().unwrap().push(live.model.version().to_owned()));
    assert!(matches!(keeper.refresh().unwrap(), Refreshed::Unchanged(_)));
    let before = keeper.handle().current();
    file.write(model("2").encode_to_vec());
    let Refreshed::Swapped { old, new } = keeper.refresh().unwrap() else { panic!("not swapped") };
    assert_eq!((old.model.version(), new.model.version()), ("1", "2"));
    assert!(matches!(keeper.reload().unwrap(), Refreshed::Unchanged(_)));
    assert_eq!(*told.lock().unwrap(), ["2"]);
    assert_eq!(before.model.version(), "1", "whoever has taken a model keeps it");
}

#[test]
fn a_refused_model_leaves_the_one_at_work_and_is_said_until_a_good_one_comes() {
    let file = File::new(&model("1"));
    let keeper = file.keeper();
    keeper.pin_profile(Profile::Fixed);
    let cases: [(&str, Vec<u8>); 3] = [
        ("ONNX", b"<html>no model</html>".to_vec()),
        ("profile cic2017", with(model("2"), "ml_ids.profile", "cic2017").encode_to_vec()),
        ("contract", with(model("2"), "ml_ids.contract", "9").encode_to_vec()),
    ];
    for (reason, bytes) in cases {
        file.write(bytes);
        let error = keeper.refresh().unwrap_err();
        assert_eq!(version(&keeper), "1", "{error}");
        let said = keeper.reasons();
        assert!(said.len() == 1 && said[0].contains(reason) && said[0].contains("stays at work"), "{said:?}");
        // A look that finds the same file does not load it again, and what was wrong is still wrong.
        assert!(matches!(keeper.refresh(), Ok(Refreshed::Unchanged(_))));
        assert_eq!(keeper.reasons(), said);
        // Who asks for it gets it tried again.
        assert!(matches!(keeper.reload(), Err(RefreshError::Model(_))));
    }
    file.write(model("3").encode_to_vec());
    assert!(matches!(keeper.refresh().unwrap(), Refreshed::Swapped { .. }));
    assert_eq!((version(&keeper).as_str(), keeper.reasons().len()), ("3", 0));
}

#[test]
fn a_source_that_is_away_leaves_the_model_at_work_until_it_is_back() {
    let file = File::new(&model("1"));
    let keeper = file.keeper();
    let aside = file.path.with_extension("aside");
    fs::rename(&file.path, &aside).unwrap();
    assert!(keeper.refresh().is_err());
    let said = keeper.reasons();
    assert!(said.len() == 1 && said[0].contains("gives no model"), "{said:?}");
    fs::rename(&aside, &file.path).unwrap();
    assert!(matches!(keeper.refresh().unwrap(), Refreshed::Unchanged(_)));
    assert_eq!((version(&keeper).as_str(), keeper.reasons().len()), ("1", 0));
}

#[test]
fn looks_are_told_in_a_word_and_counted_while_they_fail() {
    let file = File::new(&model("1"));
    let keeper = file.keeper();
    let told = || (keeper.looks().outcome.name(), keeper.looks().failures);
    assert_eq!(told(), ("loaded", 0));
    keeper.refresh().unwrap();
    assert_eq!(told(), ("unchanged", 0));
    file.write("no model");
    assert!(keeper.refresh().is_err());
    assert_eq!(told(), ("refused", 1));
    assert!(keeper.reload().is_err());
    assert_eq!(told(), ("refused", 2));
    keeper.refresh().unwrap();
    assert_eq!(told(), ("refused", 0), "the same file as before");
    fs::remove_file(&file.path).unwrap();
    assert!(keeper.refresh().is_err());
    assert_eq!(told(), ("denied", 1));
    file.write(model("2").encode_to_vec());
    keeper.refresh().unwrap();
    assert_eq!(told(), ("swapped", 0));
}

#[test]
fn one_look_at_a_time() {
    let (arrived, arrivals) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (gone, bytes) = (Mutex::new(gone), model("1").encode_to_vec());
    let first = Mutex::new(true);
    let site = Site::start(move |_, stream| {
        if !std::mem::take(&mut *first.lock().unwrap()) {
            arrived.send(()).unwrap();
            gone.lock().unwrap().recv().unwrap();
        }
        let _ = stream.write_all(&answer("200 OK", "", &bytes));
    });
    let keeper = start(&site.url("/m"), None).unwrap();
    thread::scope(|scope| {
        let look = scope.spawn(|| keeper.reload());
        arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(keeper.reload(), Err(RefreshError::Busy)));
        go.send(()).unwrap();
        assert!(matches!(look.join().unwrap(), Ok(Refreshed::Unchanged(_))));
    });
}

#[test]
fn the_last_good_model_works_where_the_server_is_away_or_has_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path());
    let served = Arc::new(Mutex::new(answer("200 OK", "", &model("1").encode_to_vec())));
    let says = Arc::clone(&served);
    let site = Site::start(move |_, stream| {
        let _ = stream.write_all(&says.lock().unwrap());
    });
    let url = site.url("/m");
    let serve = |bytes| *served.lock().unwrap() = bytes;

    serve(answer("503 Service Unavailable", "", b"down"));
    assert!(start(&url, cache).is_err(), "nothing was ever kept");
    serve(answer("200 OK", "", &model("1").encode_to_vec()));
    let keeper = start(&url, cache).unwrap();
    assert!(!keeper.handle().current().origin.cached && keeper.reasons().is_empty());

    for (bytes, reason) in
        [(answer("503 Service Unavailable", "", b"down"), "is away"), (answer("200 OK", "", b"no model"), "is refused")]
    {
        serve(bytes);
        let keeper = start(&url, cache).unwrap();
        assert!(keeper.handle().current().origin.cached);
        let said = keeper.reasons();
        assert!(said.len() == 1 && said[0].contains(reason) && said[0].contains("from the cache"), "{said:?}");
        assert!(start(&url, None).is_err(), "without a cache there is no model");
        // The same model fresh from the server is no longer the cache's.
        serve(answer("200 OK", "", &model("1").encode_to_vec()));
        assert!(matches!(keeper.refresh().unwrap(), Refreshed::Unchanged(_)));
        assert!(!keeper.handle().current().origin.cached && keeper.reasons().is_empty());
    }
    // Who is told no is not helped by the cache: the configuration is wrong.
    serve(answer("401 Unauthorized", "", b"who are you"));
    let error = start(&url, cache).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("answers 401"), "{error}");
}

#[test]
fn a_kept_model_must_have_the_checksum_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::saying(answer("200 OK", "", &model("1").encode_to_vec()));
    let url = site.url("/m");
    let sha256 = start(&url, Some(folder.path())).unwrap().handle().current().model.sha256().to_owned();
    drop(site);
    let start = |sha256: &str| {
        let mut options = options(&url, Some(folder.path()));
        options.load.sha256 = Some(sha256.to_owned());
        Keeper::start(options, &|_, _| {})
    };
    assert!(start(&sha256).is_ok());
    assert!(matches!(start(&"0".repeat(64)), Err(ModelError::Fetch(FetchError::Unreachable { .. }))));
}

#[test]
fn batches_are_judged_by_one_model_each_while_models_are_swapped() {
    let file = File::new(&model("1"));
    let keeper = file.keeper();
    let handle = keeper.handle();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.last().is_none_or(|version| version != "5") {
                let live = handle.current();
                let rows = vec![[0.0; 78]; 64];
                assert_eq!(live.model.score(&rows).unwrap().len(), rows.len());
                seen.push(live.model.version().to_owned());
            }
            seen
        });
        for version in 2..=5 {
            file.write(model(&version.to_string()).encode_to_vec());
            assert!(matches!(keeper.refresh().unwrap(), Refreshed::Swapped { .. }));
        }
        let seen = reader.join().unwrap();
        assert!(seen.is_sorted(), "{seen:?}");
    });
}
