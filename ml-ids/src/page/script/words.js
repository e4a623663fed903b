// What things mean: classes, severities, reasons and counters in plain words. Data only.

const SEVERITIES = { 1: ["high", "High"], 2: ["medium", "Medium"], 3: ["low", "Low"], 4: ["info", "Info"] };

// How a class's name begins, what it means, and what to look at first. The longest match counts.
const MEANINGS = [
  ["Heartbleed", "Somebody tries to read the memory of a server through a flaw in old OpenSSL (Heartbleed). Keys and passwords may leak.", "Check the OpenSSL version of the target; if it is one of 2014 or before, take the service off the network and replace its keys."],
  ["Infiltration - Portscan", "A host looks for open services on others, as software does that has got inside and looks around.", "If the source is one of your own hosts, find out which program does this. Your own scanners do the same."],
  ["Infiltration", "Traffic like that of a host that was taken over through something its user has opened, and now works for somebody else.", "Take the source off the network if it is one of your own hosts, and look at what runs there."],
  ["Bot", "A host talks to somebody who seems to give it orders, as members of a botnet do.", "Look at what the source runs, and whether the target is known to you."],
  ["Web Attack - SQL", "Somebody sends database commands through the input of a web application.", "Look at the web server's log for this source; check what the application did with the input."],
  ["Web Attack - XSS", "Somebody tries to place scripts in a web application, which then run at its visitors.", "Look at the web server's log for this source."],
  ["Web Attack - Brute Force", "Somebody tries passwords at the login of a web application, one after another.", "Look for a login that succeeded after many failures; lock the account or the source out."],
  ["Web Attack", "Somebody tries to misuse a web application through its input.", "Look at the web server's log for this source."],
  ["FTP-", "Somebody tries passwords at an FTP server, one after another.", "Look in the server's log for a login that succeeded after many failures; lock the source out."],
  ["SSH-", "Somebody tries passwords at an SSH server, one after another.", "Look in the server's log for a login that succeeded after many failures; lock the source out."],
  ["DDoS", "Many connections at once try to overload a host or its line.", "See whether the service still answers; if not, filter the sources upstream."],
  ["DoS Slow", "Somebody holds many connections open with almost no traffic, until the server has none left for others.", "See whether the service still answers; limit connections for each source, or time slow requests out."],
  ["DoS", "Somebody sends so many or so costly requests that a server has no time for others.", "See whether the service still answers; limit the rate of this source."],
  ["Portscan", "Somebody knocks at many ports or hosts to see which services answer. It often comes before an attack.", "From outside this is daily weather; from one of your own hosts find out which program does it."],
  ["Port scan", "Somebody knocks at many ports or hosts to see which services answer. It often comes before an attack.", "From outside this is daily weather; from one of your own hosts find out which program does it."],
  ["Alert rate", "More alerts were opened within a minute than are told. Those over the rate were stored and not sent.", "See the list for what there is most of. The rate is --alert-rate."],
];

const UNKNOWN_MEANING = ["", "The model took this traffic for an attack of this class.", "Look at what the source and the target have to do with each other."];

/** What a class means: [meaning, what to look at]. */
function meaning(label) {
  const name = label.toLowerCase();
  const fits = MEANINGS.filter(([start]) => name.startsWith(start.toLowerCase()));
  const [, what, then] = fits.reduce((best, row) => (row[0].length > best[0].length ? row : best), UNKNOWN_MEANING);
  return [what, then];
}

const SKIPPED = {
  not_ip: "not IP (ARP and the like)", truncated: "cut short", malformed: "malformed", vlan_depth: "too many VLAN tags",
  extension_depth: "too many IPv6 headers", table_full: "flow table full", after_end: "late, their flow has ended",
  race: "their flow ended meanwhile", link_type: "unknown kind of link", fragment_orphan: "fragment without its first part",
  ignored: "left out on purpose (--ignore)", blocked: "dropped by a block",
};

const HOOKS = {
  "xdp-native": "XDP in the driver", "xdp-generic": "XDP in the stack", "tcx-ingress": "TCX", "clsact-ingress": "clsact filter",
  tcx: "TCX", clsact: "clsact filter", replay: "a capture that is replayed",
};

const INTERFACES = {
  attached: ["good", "good", "every packet is counted"], down: ["warn", "medium", "switched off or no carrier"],
  gone: ["bad", "high", "has disappeared"], waiting: ["warn", "wait", "not there yet"], failed: ["bad", "high", "cannot be attached"],
};

const ENDINGS = {
  quiet: "over: nothing more came", age: "over: lasted an hour, goes on as another alert", room: "over: made room for others",
  merged: "part of another alert", stopped: "over: the sensor was stopped", lost: "over: the sensor was killed",
};

const SINKS = {
  positive_log: "log of alerts", negative_log: "log of the rest", block_log: "log of blocks", eve_log: "log of events (eve.json)", stdout: "standard output", syslog: "syslog",
  webhook: "webhook", unix: "local socket", nats: "NATS",
};

const QUEUES = {
  connections: "connections", predict_quick: "small predictions", predict_bulk: "large predictions", predict_streams: "prediction streams",
  events: "listeners",
};

// How the reason of /health begins that tells a sensor which is not attached yet from a server that has none.
const NOT_ATTACHED = "capture is not attached yet";

// What a reason of /health contains, and what to do about it. The first that fits counts.
const ADVICE = [
  ["no model loaded yet", "The model is being loaded; this takes some seconds."],
  ["no model loaded", "Check --model and start again; the sensor's log says more."],
  [NOT_ATTACHED, "The sensor is starting. If this stays, its log says why it cannot attach."],
  ["does not take events", "See whether that receiver runs and can be reached. Events wait meanwhile, up to the size of the queue."],
  ["found its queue full", "The receiver is too slow or was away: these events have not reached it. They are still in the list of alerts."],
  ["alerts are not stored", "Make room on the disk, or make the state directory writable. Alerts wait in memory meanwhile."],
  ["ring buffer", "The sensor did not keep up for a moment. If the number grows, give it a larger buffer or more CPU."],
  ["flow table", "There are more flows than fit. A larger table costs memory only."],
  ["kernel refused", "Flows end late meanwhile; the sensor's log says why the kernel refuses."],
  ["filter of system calls", "The sensor's log says what has failed. Please report it with the numbers."],
  ["stays at work", "Traffic is judged by the model that is loaded. See whether its source can be reached and what it offers."],
  ["certificate before stays", "Mend the file and send the sensor SIGHUP."],
  ["tokens before stay", "Mend the file and send the sensor SIGHUP."],
  ["is gone", "Check the interface's name, cable and driver."],
  ["is not there", "Check the interface's name; if it comes later, there is nothing to do."],
  ["is down", "Switch the interface on: ip link set NAME up."],
  ["has no carrier", "Check the interface's cable, and the port on the other side."],
  ["sees none of the packets", "The driver does not show its packets to this hook; the sensor's log says more."],
];

/** What to do about a reason; empty if it says so itself or nobody knows. */
function advice(reason) {
  const found = ADVICE.find(([part]) => reason.toLowerCase().includes(part));
  return found ? found[1] : "The sensor's log says more.";
}
