// The page: asks how the sensor is, then listens; everything else follows from the two.

const HEALTH_S = 10;
const FLOWS_S = 5;
const SLOW_S = 300;
const THEMES = [["auto", "Automatic"], ["light", "Light"], ["dark", "Dark"]];

let listening = false;

/** Whether this server has no sensor at all, as opposed to one that is not attached yet. */
const hasNone = (health) => health.sensor === null && !health.reasons.some((reason) => reason.startsWith(NOT_ATTACHED));

const health = every(HEALTH_S, async () => {
  let answer;
  try {
    answer = await get("/health");
  } catch {
    mark($("state"), "bad", "high", "No answer");
    if (!listening) showLink("warn", "wait", "Sensor does not answer, asking again");
    return;
  }
  showHealth(answer);
  alertsGrow();
  const none = hasNone(answer);
  $("no-sensor").hidden = !none;
  for (const part of document.querySelectorAll(".needs-sensor")) part.hidden = none;
  await modelOf(answer).catch(() => {});
  if (none) showLink("good", "good", "Connected");
  else if (answer.sensor && !listening) startListening();
  else if (!answer.sensor) {
    showLink("warn", "wait", "Sensor is starting");
    setTimeout(health, 1500);
  }
});

const flows = every(FLOWS_S, async () => {
  if (isLive() && listening) await loadFlows();
});

// What nobody tells: the share of alerts in an hour that has passed, and drift.
const slow = every(SLOW_S, async () => {
  if (!isLive() || !listening) return;
  await Promise.all([loadModel(), loadHour(), loadPast()]);
});

function startListening() {
  listening = true;
  listen("alert,pulse", {
    live() {
      // Also after the sensor was away: what has happened meanwhile is fetched.
      health();
      flows();
      loadPast().catch(() => {});
      loadAlerts().catch(() => {});
      list.hourDue = 0;
      loadHour().catch(() => {});
    },
    pulse(pulse) {
      showPulse(pulse);
      addPulse(pulse);
    },
    alert: alertTold,
  });
}

function watchTheme(redraw) {
  const root = document.documentElement;
  const apply = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    const [, words] = THEMES.find(([theme]) => theme === name) ?? THEMES[0];
    say($("theme-name"), words);
    $("theme").setAttribute("aria-label", `Colours: ${words}`);
    redraw();
  };
  let current = store.get("ml-ids-theme", localStorage) ?? "auto";
  apply(current);
  $("theme").addEventListener("click", () => {
    const at = THEMES.findIndex(([theme]) => theme === current);
    [current] = THEMES[(at + 1) % THEMES.length];
    store.set("ml-ids-theme", current, localStorage);
    apply(current);
  });
}

watchTheme(watchCharts());
watchAlerts();
watchDetail();
watchFlows(flows);
health();
flows();
slow();
