// The foremost of the flows that are open now.

const FLOW_ROWS = 25;

async function loadFlows() {
  let answer;
  try {
    answer = await get(`/flows?by=${$("by").value}&limit=${FLOW_ROWS}`);
  } catch (error) {
    if (error instanceof Refused) showFlows([], `The open flows cannot be read: ${error.message}.`);
    return;
  }
  showFlows(answer.flows, "No flow is open. A flow appears here with its first packet and leaves when it ends.");
}

function showFlows(flows, empty) {
  if (isSelecting($("flows"))) return;
  const rows = flows.slice(0, FLOW_ROWS).map((flow) => {
    const cell = (name, text, kind) => el("td", { role: "cell", "data-name": name, class: kind }, text);
    // Where there is no room the port goes to the next line; what is longer than IPv4 breaks anywhere.
    const place = (name, text) => {
      const at = text.includes(":") ? text.lastIndexOf(":") : text.length;
      const made = cell(name, text.slice(0, at), text.length <= 21 ? "short" : null);
      made.append(el("wbr"), text.slice(at));
      return made;
    };
    const payload = flow.bytes_toserver + flow.bytes_toclient;
    return el("tr", { role: "row" },
      place("From", end(flow.src_ip, flow.src_port)),
      place("To", end(flow.dest_ip, flow.dest_port)),
      cell("Protocol", flow.proto === "OTHER" ? "other" : flow.proto),
      cell("Packets", count(flow.pkts_toserver + flow.pkts_toclient), "n"),
      cell("Payload", bytes(payload), "n"),
      cell("Age", lasting(flow.age), "n"));
  });
  $("flow-rows").replaceChildren(...rows);
  $("flows").hidden = rows.length === 0;
  say($("flows-empty"), empty);
  $("flows-empty").hidden = rows.length > 0;
}

function watchFlows(again) {
  $("by").addEventListener("change", again);
}
