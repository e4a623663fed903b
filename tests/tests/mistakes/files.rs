//! Mistakes with captures and tables.

use super::{Ends, Mistake};

pub(crate) const MISTAKES: &[Mistake] = &[
    Mistake {
        title: "A capture that is cut short",
        did: "A capture that was copied while it was written, or whose disk was full.",
        setup: "head -c -7 tcp_basic.pcap > cut.pcap",
        command: "ml-ids extract cut.pcap -o flows.csv",
        ends: Ends::With(3),
        means: "The rows of all packets before that byte are in `flows.csv`; exit code 3 says that there was more.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A file that is no capture",
        did: "Something else than a capture, here a table.",
        setup: "echo 'time,source,destination' > table.pcap",
        command: "ml-ids extract table.pcap",
        ends: Ends::With(3),
        means: "`file table.pcap` says what it is. Of Wireshark's formats pcap and pcapng are read, others can be saved as \
                one of them.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A capture of another kind of link",
        did: "A pcapng whose frames are neither Ethernet, IP, Linux SLL nor another link type that carries IP in a known way; \
              here USB.",
        setup: "python3 -c 'import struct as s; b=lambda t,d: s.pack(\"<II\",t,12+len(d))+d+s.pack(\"<I\",12+len(d)); \
                open(\"usb.pcapng\",\"wb\").write(b(0x0a0d0d0a,s.pack(\"<IHHq\",0x1a2b3c4d,1,0,-1))+b(1,s.pack(\"<HHI\",220,0,0))\
                +b(6,s.pack(\"<IIIII\",0,0,0,8,8)+bytes(8)))'",
        command: "ml-ids extract usb.pcapng -o flows.csv",
        ends: Ends::With(0),
        means: "The capture is whole, and there is no flow in it; the reason in brackets says why its packets were left out. \
                Capture on an interface that carries IP.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Writing over the capture",
        did: "Input and output are one file.",
        setup: "cp tcp_basic.pcap mine.pcap",
        command: "ml-ids extract mine.pcap > mine.pcap.csv; ml-ids extract mine.pcap -o mine.pcap",
        means: "The capture is as it was.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A value that is no number",
        did: "A table in which somebody has written words where numbers belong.",
        setup: "ml-ids extract random.pcap -q -o flows.csv; sed '3s/,[0-9]*,/,n\\/a,/9' flows.csv | head -5 > words.csv",
        command: "ml-ids score words.csv -o verdicts.jsonl",
        ends: Ends::With(3),
        means: "All other rows are scored. `NaN` and `Infinity` are numbers; an empty field is none.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A table that lacks columns",
        did: "A table from which columns were dropped.",
        setup: "ml-ids extract random.pcap -q -o flows.csv; cut -d, -f1-12,20- flows.csv > few.csv",
        command: "ml-ids score few.csv",
        ends: Ends::With(3),
        means: "Only features that the model does not look at may be missing; `ml-ids model inspect` names them.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A table in the spelling of another tool",
        did: "A table of the Python cicflowmeter, whose durations are in seconds and whose lengths are those of frames.",
        setup: "echo 'src_ip,dst_ip,src_port,dst_port,protocol,timestamp,flow_duration,tot_fwd_pkts,flow_byts_s' > python.csv; \
                echo '10.0.0.1,10.0.0.2,1111,80,6,2024-05-01 10:00:00,0.5,3,120.0' >> python.csv",
        command: "ml-ids score python.csv",
        ends: Ends::With(3),
        means: "Its numbers are measured in another way under these names, and verdicts on them would be guesses. Make the \
                table from the capture with `ml-ids extract`; live flows of that tool are taken by `POST /predict`, which \
                converts their units.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "Alerts of a table",
        did: "`--alerts` with a table instead of a capture.",
        setup: "ml-ids extract random.pcap -q -o flows.csv",
        command: "ml-ids score flows.csv --alerts",
        ends: Ends::With(3),
        means: "Alerts join flows by addresses and times, which only a capture has for certain.",
        ..Mistake::USUAL
    },
    Mistake {
        title: "A format that there is not",
        did: "A format that other programs have.",
        command: "ml-ids extract tcp_basic.pcap --format json",
        ends: Ends::With(2),
        means: "Without `--format` the ending of the output's name decides.",
        ..Mistake::USUAL
    },
];
