//! The table of the 78 features: names, unit, formula, meaning. Source: `docs/feature-spec.md` section 7.

use std::ops::RangeInclusive;

use ml_ids_common::TcpFlags;

use super::{FEATURE_COUNT, FlowView};

/// One feature: its names, its unit and what it means.
#[derive(Debug)]
pub struct Feature {
    /// Position in `MachineLearningCVE`, 1 to 78.
    pub number: usize,
    /// `MachineLearningCVE` header without leading blanks; the repeated one is `Fwd Header Length.1`.
    pub name: &'static str,
    /// CICFlowMeter 4 and the fork today ("Java today"); `None` where the column does not exist.
    pub cicflowmeter4: Option<&'static str>,
    /// CICFlowMeter of 2018 (CSE-CIC-IDS2018).
    pub cicflowmeter2018: Option<&'static str>,
    /// Python `cicflowmeter` key.
    pub python: Option<&'static str>,
    /// Unit: `us`, `bytes`, `packets`, `bytes/s`, `packets/s`, `bytes^2`, `ratio` or `-`.
    pub unit: &'static str,
    /// The value for a flow, in the unit above.
    pub value: fn(&FlowView<'_>) -> f64,
    /// What it is in the profile `fixed`, in one sentence without a full stop.
    pub description: &'static str,
    /// What other profiles change; empty when nothing.
    pub differs: &'static str,
}

/// Numbers of the features that are integers for every flow and in every profile.
const WHOLE: [RangeInclusive<usize>; 11] =
    [1..=8, 11..=12, 21..=21, 24..=26, 29..=36, 39..=40, 44..=51, 56..=56, 67..=70, 73..=74, 77..=78];

impl Feature {
    /// Whether it is an integer for every flow and in every profile; what may be a fraction, NaN or Infinity is not.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        WHOLE.iter().any(|numbers| numbers.contains(&self.number))
    }
}

const fn present(name: &'static str) -> Option<&'static str> {
    if name.is_empty() { None } else { Some(name) }
}

/// A row reads: number, `MachineLearningCVE` | CICFlowMeter 4 | CICFlowMeter 2018 | Python, [unit] formula,
/// description, what other profiles change.
macro_rules! features {
    ($($number:literal: $name:literal | $cicflowmeter4:literal | $cicflowmeter2018:literal | $python:literal
       [$unit:literal] $value:expr;
       $description:literal, $differs:literal;)*) => {
        /// All features in `MachineLearningCVE` order.
        pub static FEATURES: [Feature; FEATURE_COUNT] = [$(Feature {
            number: $number,
            name: $name,
            cicflowmeter4: present($cicflowmeter4),
            cicflowmeter2018: present($cicflowmeter2018),
            python: present($python),
            unit: $unit,
            value: $value,
            description: $description,
            differs: $differs,
        }),*];
    };
}

features! {
    1: "Destination Port" | "Dst Port" | "Dst Port" | "dst_port"
        ["-"] |f| f.destination_port;
        "Port of the flow's destination; 0 unless TCP or UDP", "";
    2: "Flow Duration" | "Flow Duration" | "Flow Duration" | "flow_duration"
        ["us"] |f| f.duration;
        "Time from the first packet to the last", "";
    3: "Total Fwd Packets" | "Total Fwd Packet" | "Tot Fwd Pkts" | "tot_fwd_pkts"
        ["packets"] |f| f.forward.packets;
        "Packets of the flow's source", "";
    4: "Total Backward Packets" | "Total Bwd packets" | "Tot Bwd Pkts" | "tot_bwd_pkts"
        ["packets"] |f| f.backward.packets;
        "Packets of the flow's destination", "";
    5: "Total Length of Fwd Packets" | "Total Length of Fwd Packet" | "TotLen Fwd Pkts" | "totlen_fwd_pkts"
        ["bytes"] |f| f.forward.lengths.sum;
        "Layer 4 payload of the forward packets", "cic2017: Ethernet padding counts as payload";
    6: "Total Length of Bwd Packets" | "Total Length of Bwd Packet" | "TotLen Bwd Pkts" | "totlen_bwd_pkts"
        ["bytes"] |f| f.backward.lengths.sum;
        "Layer 4 payload of the backward packets", "cic2017: Ethernet padding counts as payload";
    7: "Fwd Packet Length Max" | "Fwd Packet Length Max" | "Fwd Pkt Len Max" | "fwd_pkt_len_max"
        ["bytes"] |f| f.forward.lengths.max;
        "Largest payload of a forward packet", "cic2017: Ethernet padding counts as payload";
    8: "Fwd Packet Length Min" | "Fwd Packet Length Min" | "Fwd Pkt Len Min" | "fwd_pkt_len_min"
        ["bytes"] |f| f.forward.lengths.min;
        "Least payload of a forward packet", "cic2017: Ethernet padding counts as payload";
    9: "Fwd Packet Length Mean" | "Fwd Packet Length Mean" | "Fwd Pkt Len Mean" | "fwd_pkt_len_mean"
        ["bytes"] |f| f.forward.lengths.mean();
        "Mean payload of the forward packets", "cic2017: Ethernet padding counts as payload";
    10: "Fwd Packet Length Std" | "Fwd Packet Length Std" | "Fwd Pkt Len Std" | "fwd_pkt_len_std"
        ["bytes"] |f| f.forward.lengths.std();
        "Sample standard deviation of the payload of the forward packets",
        "cic2017: Ethernet padding counts as payload";
    11: "Bwd Packet Length Max" | "Bwd Packet Length Max" | "Bwd Pkt Len Max" | "bwd_pkt_len_max"
        ["bytes"] |f| f.backward.lengths.max;
        "Largest payload of a backward packet", "cic2017: Ethernet padding counts as payload";
    12: "Bwd Packet Length Min" | "Bwd Packet Length Min" | "Bwd Pkt Len Min" | "bwd_pkt_len_min"
        ["bytes"] |f| f.backward.lengths.min;
        "Least payload of a backward packet", "cic2017: Ethernet padding counts as payload";
    13: "Bwd Packet Length Mean" | "Bwd Packet Length Mean" | "Bwd Pkt Len Mean" | "bwd_pkt_len_mean"
        ["bytes"] |f| f.backward.lengths.mean();
        "Mean payload of the backward packets", "cic2017: Ethernet padding counts as payload";
    14: "Bwd Packet Length Std" | "Bwd Packet Length Std" | "Bwd Pkt Len Std" | "bwd_pkt_len_std"
        ["bytes"] |f| f.backward.lengths.std();
        "Sample standard deviation of the payload of the backward packets",
        "cic2017: Ethernet padding counts as payload";
    15: "Flow Bytes/s" | "Flow Bytes/s" | "Flow Byts/s" | "flow_byts_s"
        ["bytes/s"] |f| f.rate(f.bytes());
        "Payload of both directions per second; -1 without duration",
        "cns2022, cic2017: without duration Infinity, without payload too NaN; cic2017: padding counts as payload";
    16: "Flow Packets/s" | "Flow Packets/s" | "Flow Pkts/s" | "flow_pkts_s"
        ["packets/s"] |f| f.rate(f.packets());
        "Packets of both directions per second; -1 without duration", "cns2022, cic2017: Infinity without duration";
    17: "Flow IAT Mean" | "Flow IAT Mean" | "Flow IAT Mean" | "flow_iat_mean"
        ["us"] |f| f.flow_gap(f.gaps.mean());
        "Mean gaps between consecutive packets; 0 if there is none", "cns2022: NaN for one packet";
    18: "Flow IAT Std" | "Flow IAT Std" | "Flow IAT Std" | "flow_iat_std"
        ["us"] |f| f.flow_gap(f.gaps.std());
        "Sample standard deviation of the gaps between consecutive packets; 0 if there is none",
        "cns2022: NaN for one packet";
    19: "Flow IAT Max" | "Flow IAT Max" | "Flow IAT Max" | "flow_iat_max"
        ["us"] |f| f.flow_gap(f.gaps.max);
        "Longest gap between consecutive packets; 0 if there is none", "cns2022: NaN for one packet";
    20: "Flow IAT Min" | "Flow IAT Min" | "Flow IAT Min" | "flow_iat_min"
        ["us"] |f| f.flow_gap(f.gaps.min);
        "Shortest gap between consecutive packets; 0 if there is none", "cns2022: NaN for one packet";
    21: "Fwd IAT Total" | "Fwd IAT Total" | "Fwd IAT Tot" | "fwd_iat_tot"
        ["us"] |f| f.forward.gaps.sum;
        "Time from the first forward packet to the last", "";
    22: "Fwd IAT Mean" | "Fwd IAT Mean" | "Fwd IAT Mean" | "fwd_iat_mean"
        ["us"] |f| f.forward.gaps.mean();
        "Mean gap between consecutive forward packets", "";
    23: "Fwd IAT Std" | "Fwd IAT Std" | "Fwd IAT Std" | "fwd_iat_std"
        ["us"] |f| f.forward.gaps.std();
        "Sample standard deviation of the gaps between forward packets", "";
    24: "Fwd IAT Max" | "Fwd IAT Max" | "Fwd IAT Max" | "fwd_iat_max"
        ["us"] |f| f.forward.gaps.max;
        "Longest gap between consecutive forward packets", "";
    25: "Fwd IAT Min" | "Fwd IAT Min" | "Fwd IAT Min" | "fwd_iat_min"
        ["us"] |f| f.forward.gaps.min;
        "Shortest gap between consecutive forward packets", "";
    26: "Bwd IAT Total" | "Bwd IAT Total" | "Bwd IAT Tot" | "bwd_iat_tot"
        ["us"] |f| f.backward.gaps.sum;
        "Time from the first backward packet to the last", "";
    27: "Bwd IAT Mean" | "Bwd IAT Mean" | "Bwd IAT Mean" | "bwd_iat_mean"
        ["us"] |f| f.backward.gaps.mean();
        "Mean gap between consecutive backward packets", "";
    28: "Bwd IAT Std" | "Bwd IAT Std" | "Bwd IAT Std" | "bwd_iat_std"
        ["us"] |f| f.backward.gaps.std();
        "Sample standard deviation of the gaps between backward packets", "";
    29: "Bwd IAT Max" | "Bwd IAT Max" | "Bwd IAT Max" | "bwd_iat_max"
        ["us"] |f| f.backward.gaps.max;
        "Longest gap between consecutive backward packets", "";
    30: "Bwd IAT Min" | "Bwd IAT Min" | "Bwd IAT Min" | "bwd_iat_min"
        ["us"] |f| f.backward.gaps.min;
        "Shortest gap between consecutive backward packets", "";
    31: "Fwd PSH Flags" | "Fwd PSH Flags" | "Fwd PSH Flags" | "fwd_psh_flags"
        ["packets"] |f| f.forward.psh;
        "Forward packets with PSH", "cic2017: 1 if the first packet has PSH";
    32: "Bwd PSH Flags" | "Bwd PSH Flags" | "Bwd PSH Flags" | "bwd_psh_flags"
        ["packets"] |f| f.backward.psh;
        "Backward packets with PSH", "cic2017: 0";
    33: "Fwd URG Flags" | "Fwd URG Flags" | "Fwd URG Flags" | "fwd_urg_flags"
        ["packets"] |f| f.forward.urg;
        "Forward packets with URG", "cic2017: 1 if the first packet has URG";
    34: "Bwd URG Flags" | "Bwd URG Flags" | "Bwd URG Flags" | "bwd_urg_flags"
        ["packets"] |f| f.backward.urg;
        "Backward packets with URG", "cic2017: 0";
    35: "Fwd Header Length" | "Fwd Header Length" | "Fwd Header Len" | "fwd_header_len"
        ["bytes"] |f| f.forward.header_sum;
        "Layer 4 headers of the forward packets, options included", "cic2017: 20 for each UDP packet";
    36: "Bwd Header Length" | "Bwd Header Length" | "Bwd Header Len" | "bwd_header_len"
        ["bytes"] |f| f.backward.header_sum;
        "Layer 4 headers of the backward packets, options included", "cic2017: 20 for each UDP packet";
    37: "Fwd Packets/s" | "Fwd Packets/s" | "Fwd Pkts/s" | "fwd_pkts_s"
        ["packets/s"] |f| f.side_rate(f.forward.packets);
        "Forward packets per second; 0 without duration", "";
    38: "Bwd Packets/s" | "Bwd Packets/s" | "Bwd Pkts/s" | "bwd_pkts_s"
        ["packets/s"] |f| f.side_rate(f.backward.packets);
        "Backward packets per second; 0 without duration", "";
    39: "Min Packet Length" | "Packet Length Min" | "Pkt Len Min" | "pkt_len_min"
        ["bytes"] |f| f.lengths.min;
        "Least payload of a packet", "cic2017: Ethernet padding counts as payload";
    40: "Max Packet Length" | "Packet Length Max" | "Pkt Len Max" | "pkt_len_max"
        ["bytes"] |f| f.lengths.max;
        "Largest payload of a packet", "cic2017: Ethernet padding counts as payload";
    41: "Packet Length Mean" | "Packet Length Mean" | "Pkt Len Mean" | "pkt_len_mean"
        ["bytes"] |f| f.lengths.mean();
        "Mean payload of all packets", "cic2017: with padding, the first packet entered twice";
    42: "Packet Length Std" | "Packet Length Std" | "Pkt Len Std" | "pkt_len_std"
        ["bytes"] |f| f.lengths.std();
        "Sample standard deviation of the payload of all packets",
        "cic2017: with padding, the first packet entered twice";
    43: "Packet Length Variance" | "Packet Length Variance" | "Pkt Len Var" | "pkt_len_var"
        ["bytes^2"] |f| f.lengths.variance();
        "Sample variance of the payload of all packets", "cic2017: with padding, the first packet entered twice";
    44: "FIN Flag Count" | "FIN Flag Count" | "FIN Flag Cnt" | "fin_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::FIN, TcpFlags::RST);
        "Packets with FIN", "cic2017: 1 if the first packet has RST";
    45: "SYN Flag Count" | "SYN Flag Count" | "SYN Flag Cnt" | "syn_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::SYN, TcpFlags::PSH);
        "Packets with SYN", "cic2017: 1 if the first packet has PSH";
    46: "RST Flag Count" | "RST Flag Count" | "RST Flag Cnt" | "rst_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::RST, TcpFlags::ECE);
        "Packets with RST", "cic2017: 1 if the first packet has ECE";
    47: "PSH Flag Count" | "PSH Flag Count" | "PSH Flag Cnt" | "psh_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::PSH, TcpFlags::SYN);
        "Packets with PSH", "cic2017: 1 if the first packet has SYN";
    48: "ACK Flag Count" | "ACK Flag Count" | "ACK Flag Cnt" | "ack_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::ACK, TcpFlags::ACK);
        "Packets with ACK", "cic2017: 1 if the first packet has ACK";
    49: "URG Flag Count" | "URG Flag Count" | "URG Flag Cnt" | "urg_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::URG, TcpFlags::FIN);
        "Packets with URG", "cic2017: 1 if the first packet has FIN";
    50: "CWE Flag Count" | "CWR Flag Count" | "CWE Flag Count" | "cwr_flag_count"
        ["packets"] |f| f.flags(TcpFlags::CWR, TcpFlags::URG);
        "Packets with CWR", "cic2017: 1 if the first packet has URG";
    51: "ECE Flag Count" | "ECE Flag Count" | "ECE Flag Cnt" | "ece_flag_cnt"
        ["packets"] |f| f.flags(TcpFlags::ECE, TcpFlags::CWR);
        "Packets with ECE", "cic2017: 1 if the first packet has CWR";
    52: "Down/Up Ratio" | "Down/Up Ratio" | "Down/Up Ratio" | "down_up_ratio"
        ["ratio"] |f| f.down_up();
        "Backward packets over forward packets; 0 without forward packets", "cic2017: rounded down";
    53: "Average Packet Size" | "Average Packet Size" | "Pkt Size Avg" | "pkt_size_avg"
        ["bytes"] |f| f.lengths.sum / f.packets();
        "Mean payload of all packets", "cic2017: the first packet's payload counts twice in the sum";
    54: "Avg Fwd Segment Size" | "Fwd Segment Size Avg" | "Fwd Seg Size Avg" | "fwd_seg_size_avg"
        ["bytes"] |f| f.forward.lengths.mean();
        "Mean payload of the forward packets", "cic2017: Ethernet padding counts as payload";
    55: "Avg Bwd Segment Size" | "Bwd Segment Size Avg" | "Bwd Seg Size Avg" | "bwd_seg_size_avg"
        ["bytes"] |f| f.backward.lengths.mean();
        "Mean payload of the backward packets", "cic2017: Ethernet padding counts as payload";
    56: "Fwd Header Length.1" | "" | "" | ""
        ["bytes"] |f| f.forward.header_sum;
        "Repeats column 35", "cic2017: 20 for each UDP packet";
    57: "Fwd Avg Bytes/Bulk" | "Fwd Bytes/Bulk Avg" | "Fwd Byts/b Avg" | "fwd_byts_b_avg"
        ["bytes"] |f| f.forward.bulk_bytes;
        "Payload of a forward bulk, on average", "cns2022: rounded down; cic2017: 0";
    58: "Fwd Avg Packets/Bulk" | "Fwd Packet/Bulk Avg" | "Fwd Pkts/b Avg" | "fwd_pkts_b_avg"
        ["packets"] |f| f.forward.bulk_packets;
        "Packets of a forward bulk, on average", "cns2022: rounded down; cic2017: 0";
    59: "Fwd Avg Bulk Rate" | "Fwd Bulk Rate Avg" | "Fwd Blk Rate Avg" | "fwd_blk_rate_avg"
        ["bytes/s"] |f| f.forward.bulk_rate;
        "Payload per second in forward bulks", "cns2022: rounded down; cic2017: 0";
    60: "Bwd Avg Bytes/Bulk" | "Bwd Bytes/Bulk Avg" | "Bwd Byts/b Avg" | "bwd_byts_b_avg"
        ["bytes"] |f| f.backward.bulk_bytes;
        "Payload of a backward bulk, on average", "cns2022: rounded down; cic2017: 0";
    61: "Bwd Avg Packets/Bulk" | "Bwd Packet/Bulk Avg" | "Bwd Pkts/b Avg" | "bwd_pkts_b_avg"
        ["packets"] |f| f.backward.bulk_packets;
        "Packets of a backward bulk, on average", "cns2022: rounded down; cic2017: 0";
    62: "Bwd Avg Bulk Rate" | "Bwd Bulk Rate Avg" | "Bwd Blk Rate Avg" | "bwd_blk_rate_avg"
        ["bytes/s"] |f| f.backward.bulk_rate;
        "Payload per second in backward bulks", "cns2022: rounded down; cic2017: 0";
    63: "Subflow Fwd Packets" | "Subflow Fwd Packets" | "Subflow Fwd Pkts" | "subflow_fwd_pkts"
        ["packets"] |f| f.per_subflow(f.forward.packets);
        "Forward packets over gaps of more than 1 s; 0 without such a gap",
        "cns2022: forward packets over packets, rounded down; cic2017: forward packets";
    64: "Subflow Fwd Bytes" | "Subflow Fwd Bytes" | "Subflow Fwd Byts" | "subflow_fwd_byts"
        ["bytes"] |f| f.per_subflow(f.forward.lengths.sum);
        "Forward payload over gaps of more than 1 s; 0 without such a gap",
        "cns2022: forward payload over packets, rounded down; cic2017: forward payload";
    65: "Subflow Bwd Packets" | "Subflow Bwd Packets" | "Subflow Bwd Pkts" | "subflow_bwd_pkts"
        ["packets"] |f| f.per_subflow(f.backward.packets);
        "Backward packets over gaps of more than 1 s; 0 without such a gap",
        "cns2022: backward packets over packets, rounded down; cic2017: backward packets";
    66: "Subflow Bwd Bytes" | "Subflow Bwd Bytes" | "Subflow Bwd Byts" | "subflow_bwd_byts"
        ["bytes"] |f| f.per_subflow(f.backward.lengths.sum);
        "Backward payload over gaps of more than 1 s; 0 without such a gap",
        "cns2022: backward payload over packets, rounded down; cic2017: backward payload";
    67: "Init_Win_bytes_forward" | "FWD Init Win Bytes" | "Init Fwd Win Byts" | "init_fwd_win_byts"
        ["bytes"] |f| f.forward_window();
        "Window field of the flow's first packet if it is forward; UDP 0", "cic2017: UDP -1";
    68: "Init_Win_bytes_backward" | "Bwd Init Win Bytes" | "Init Bwd Win Byts" | "init_bwd_win_byts"
        ["bytes"] |f| f.backward_window();
        "First window field of a backward packet that is not 0; UDP 0",
        "cns2022, cic2017: of the last backward packet; cic2017: -1 without one and for UDP";
    69: "act_data_pkt_fwd" | "Fwd Act Data Pkts" | "Fwd Act Data Pkts" | "fwd_act_data_pkts"
        ["packets"] |f| f.forward_data_packets();
        "Forward packets with payload",
        "cns2022, cic2017: without the flow's first packet; cic2017: Ethernet padding counts as payload";
    70: "min_seg_size_forward" | "Fwd Seg Size Min" | "Fwd Seg Size Min" | "fwd_seg_size_min"
        ["bytes"] |f| f.forward.header_min;
        "Least layer 4 header of a forward packet; 0 if the flow's first packet was backward", "cic2017: UDP 20";
    71: "Active Mean" | "Active Mean" | "Active Mean" | "active_mean"
        ["us"] |f| f.active.mean();
        "Mean stretch without a gap of more than 5 s, the last stretch left out", "";
    72: "Active Std" | "Active Std" | "Active Std" | "active_std"
        ["us"] |f| f.active.std();
        "Sample standard deviation of the stretches without a gap of more than 5 s, the last stretch left out", "";
    73: "Active Max" | "Active Max" | "Active Max" | "active_max"
        ["us"] |f| f.active.max;
        "Longest stretch without a gap of more than 5 s, the last stretch left out", "";
    74: "Active Min" | "Active Min" | "Active Min" | "active_min"
        ["us"] |f| f.active.min;
        "Shortest stretch without a gap of more than 5 s, the last stretch left out", "";
    75: "Idle Mean" | "Idle Mean" | "Idle Mean" | "idle_mean"
        ["us"] |f| f.idle.mean();
        "Mean gap of more than 5 s", "";
    76: "Idle Std" | "Idle Std" | "Idle Std" | "idle_std"
        ["us"] |f| f.idle.std();
        "Sample standard deviation of the gaps of more than 5 s", "";
    77: "Idle Max" | "Idle Max" | "Idle Max" | "idle_max"
        ["us"] |f| f.idle.max;
        "Longest gap of more than 5 s", "";
    78: "Idle Min" | "Idle Min" | "Idle Min" | "idle_min"
        ["us"] |f| f.idle.min;
        "Shortest gap of more than 5 s", "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_numbers() {
        for (index, feature) in FEATURES.iter().enumerate() {
            assert_eq!(feature.number, index + 1, "{}", feature.name);
        }
    }
}
