"use strict";
(async () => {
  const $ = (id) => document.getElementById(id);
  const page = JSON.parse($("data").textContent);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const ACTIONS = ["• stay", "← left", "→ right", "↑ up", "↓ down"];
  const EPISODES = 20;
  const STEP_MS = 140;
  const NONE = -5.9; // logarithm of a density below which there is nothing

  // Data

  async function unpack(packed) {
    if (!packed) return null;
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = planes.length / packed.bytes;
    const size = count / packed.channels;
    const most = 256 ** packed.bytes;
    const channels = [];
    for (let c = 0; c < packed.channels; c++) {
      const values = new Float32Array(size);
      let whole = 0;
      for (let k = 0; k < size; k++) {
        for (let b = 0; b < packed.bytes; b++) whole += planes[b * count + c * size + k] * 256 ** b;
        whole %= most;
        values[k] = packed.low + packed.step * whole;
      }
      channels.push(values);
    }
    return channels;
  }

  async function prepare() {
    for (const world of page.worlds) {
      world.height = world.walls.length;
      world.width = world.walls[0].length;
      world.best = await unpack(world.best);
      // The number of each free square and each free cell, row by row; -1 in walls.
      const number = (n) => {
        let next = 0;
        const found = new Int32Array(world.height * n * world.width * n);
        for (let i = 0; i < world.height * n; i++)
          for (let j = 0; j < world.width * n; j++)
            found[i * world.width * n + j] =
              world.walls[Math.floor(i / n)][Math.floor(j / n)] === "." ? next++ : -1;
        return found;
      };
      world.squares = number(world.perUnit);
      world.cells = number(1);
    }
    for (const run of page.runs) {
      run.world = page.worlds[run.world];
      run.counts = await unpack(run.counts);
      run.density = await unpack(run.density);
      for (const moment of run.moments)
        for (const name of ["learned", "exact", "policy", "occupancy"])
          moment[name] = await unpack(moment[name]);
    }
  }

  function lookup(world, place, n = world.perUnit) {
    const i = Math.min(world.height * n - 1, Math.max(0, Math.floor(place[0] * n)));
    const j = Math.min(world.width * n - 1, Math.max(0, Math.floor(place[1] * n)));
    return (n === 1 ? world.cells : world.squares)[i * world.width * n + j];
  }

  const at = (channels, k) => channels.map((values) => values[k]);
  const largest = (values) => values.indexOf(Math.max(...values));
  const expected = (policy, values) => policy.reduce((sum, p, a) => sum + p * values[a], 0);

  // Dynamics, as in the environment

  function move(world, from, by) {
    const place = [from[0], from[1]];
    const sizes = [world.height, world.width];
    for (let part = 0; part < page.substeps; part++)
      for (let axis = 0; axis < 2; axis++) {
        const before = place[axis];
        place[axis] += by[axis] * (1 / page.substeps);
        const outside = place[axis] < 0 || place[axis] > sizes[axis];
        const i = Math.min(sizes[0] - 1, Math.floor(place[0]));
        const j = Math.min(sizes[1] - 1, Math.floor(place[1]));
        if (outside || world.walls[i][j] === "#") place[axis] = before;
      }
    return place;
  }

  function generator(seed) { // mulberry32
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  class Episode {
    constructor(run, moment, start, seed) {
      Object.assign(this, { run, moment, path: [start], length: 0, total: 0, done: false });
      this.random = generator(seed);
    }
    step() {
      const { world } = this.run;
      const here = this.path[this.path.length - 1];
      const policy = at(this.moment.policy, lookup(world, here));
      // Every episode draws the same numbers in all runs, so that they differ by their policies.
      let chance = this.random() * policy.reduce((sum, p) => sum + p, 0);
      const size = page.noise * Math.sqrt(-2 * Math.log(1 - this.random()));
      const angle = 2 * Math.PI * this.random();
      let action = 0;
      while (action < policy.length - 1 && chance >= policy[action]) chance -= policy[action++];
      const [dy, dx] = page.moves[action];
      const next = move(world, here, [dy + size * Math.cos(angle), dx + size * Math.sin(angle)]);
      this.path.push(next);
      this.length++;
      this.reached = Math.hypot(next[0] - world.goal[0], next[1] - world.goal[1]) < world.radius;
      this.total -= this.reached ? 0 : 1;
      this.done = this.reached || this.length >= world.limit;
    }
  }

  // State

  const panels = [];
  let probe = [0.12, 0.12]; // as fractions of a maze
  let seed = 1;
  let playing = false;
  let clock = 0;

  function shown() { return panels.filter((panel) => panel.visible); }
  function steps() {
    const all = shown().flatMap((panel) => panel.run.moments.map((moment) => moment.step));
    return [...new Set(all)].sort((a, b) => a - b);
  }
  function momentOf(run) {
    const step = steps()[$("step").value] ?? Infinity;
    return run.moments.filter((moment) => moment.step <= step).pop() || run.moments[0];
  }

  // Colours

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962",
    "#addc30", "#fde725"];
  function palette(name) {
    const free = css("--free");
    const dark = rgb(free)[0] < 128;
    return {
      values: VIRIDIS,
      difference: dark
        ? ["#b9a8ff", "#7d66c9", "#463a78", free, "#7a4310", "#c97419", "#ffb45c"]
        : ["#3b1470", "#7f6bb0", "#cbc5e2", free, "#fdc57f", "#d9760f", "#8a3f06"],
      loss: dark ? [free, "#5e2a12", "#b4501b", "#ff8f4d"] : [free, "#fdd0a2", "#f16913", "#8c2d04"],
      density: dark
        ? [free, "#123d5a", "#1f7a9c", "#58c4b8", "#e7f7b0"]
        : [free, "#c7e9b4", "#41b6c4", "#225ea8", "#081d58"],
    }[name].map(rgb);
  }
  function shade(stops, share) {
    const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
    const k = Math.min(stops.length - 2, Math.floor(place));
    return stops[k].map((value, c) => value + (place - k) * (stops[k + 1][c] - value));
  }

  const number = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "")
    .replace("-", "−");
  const short = (value) => value >= 10 ? value.toFixed(0) : value.toPrecision(1);

  const MAPS = {
    learned: {
      title: "learned max Q̂", colours: "values", range: page.limits.values,
      missing: "This agent estimates no values of the task.",
      value: (run, moment, k) => Math.max(...at(moment.learned, k)),
      there: (run, moment) => moment.learned,
    },
    exact: {
      title: "exact V of its policy", colours: "values", range: page.limits.values,
      value: (run, moment, k) => expected(at(moment.policy, k), at(moment.exact, k)),
    },
    difference: {
      title: "learned − exact", colours: "difference",
      range: [-page.limits.difference, page.limits.difference],
      missing: "This agent estimates no values of the task.",
      value: (run, moment, k) => MAPS.learned.value(run, moment, k) - MAPS.exact.value(run, moment, k),
      there: (run, moment) => moment.learned,
    },
    loss: {
      title: "loss by one wrong action", colours: "loss", range: [0, page.limits.loss],
      value: (run, moment, k) => {
        const best = at(run.world.best, k);
        return Math.max(...best) - expected(at(moment.policy, k), best);
      },
    },
    data: {
      title: "data per cell", colours: "density", logarithmic: true,
      missing: "The dataset was not there when this page was made.",
      value: (run, moment, k) => run.density[0][k],
      top: (run) => Math.max(...run.density[0]),
      there: (run) => run.density,
    },
    occupancy: {
      title: "steps per episode and cell", colours: "density", logarithmic: true,
      value: (run, moment, k) => moment.occupancy[0][k],
      top: () => Math.max(...shown().map(({ run }) => Math.max(...momentOf(run).occupancy[0]))),
    },
  };

  // Drawing

  class Panel {
    constructor(run, index) {
      Object.assign(this, { run, index, visible: index < 2, episodes: [], start: run.world.start });
      const article = document.createElement("article");
      article.innerHTML = `<h2></h2><p class="soft about"></p><div class="stage">
        <canvas tabindex="0" role="application"></canvas>
        <button type="button" class="start">S</button></div>
        <div class="legend"><span></span><i></i><span></span></div>
        <p class="result" role="status"></p>
        <div class="readout" aria-live="polite"></div>
        <details class="numbers"><summary>In numbers</summary><table><tbody></tbody></table></details>`;
      this.article = article;
      this.part = (selector) => article.querySelector(selector);
      this.part("h2").textContent = run.name;
      this.canvas = this.part("canvas");
      this.canvas.setAttribute("aria-label",
        `Map of ${run.name}: arrow keys move the place, space plays episodes, enter starts there`);
      this.handle = this.part(".start");
      this.handle.setAttribute("aria-label", "Start: drag it, or move it with the arrow keys");
      $("panels").append(article);
      this.listen();
    }

    listen() {
      const { world } = this.run;
      const place = (event) => {
        const box = this.canvas.getBoundingClientRect();
        return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width]
          .map((share) => Math.min(0.9999, Math.max(0, share)));
      };
      const point = (event) => { probe = place(event); refresh(); };
      this.canvas.addEventListener("pointerdown", point);
      this.canvas.addEventListener("pointermove", (event) => {
        if (event.pointerType === "mouse" || event.buttons) point(event);
      });
      this.handle.addEventListener("pointerdown", (event) => {
        this.handle.setPointerCapture(event.pointerId);
      });
      this.handle.addEventListener("pointermove", (event) => {
        if (!this.handle.hasPointerCapture(event.pointerId)) return;
        const [y, x] = place(event);
        this.moveStart([y * world.height, x * world.width]);
      });
      this.handle.addEventListener("keydown", (event) => {
        const by = arrow(event);
        if (!by) return;
        event.preventDefault();
        event.stopPropagation();
        const length = (event.shiftKey ? 1 : 1 / world.perUnit);
        this.moveStart([this.start[0] + by[0] * length, this.start[1] + by[1] * length]);
      });
    }

    moveStart(place) {
      const { world } = this.run;
      const inside = place[0] >= 0 && place[1] >= 0 && place[0] < world.height
        && place[1] < world.width;
      if (!inside || lookup(world, place) < 0) return;
      // Runs in the same maze share their start.
      for (const panel of panels) if (panel.run.world.title === world.title) {
        panel.start = place;
        panel.episodes = [];
      }
      if (playing) restart();
      refresh();
    }

    get moment() { return momentOf(this.run); }

    draw() {
      const { run, moment, canvas } = this;
      const { world } = run;
      const width = Math.max(200, canvas.parentElement.clientWidth);
      const ratio = Math.min(3, window.devicePixelRatio || 1);
      this.scale = width / world.width;
      canvas.style.aspectRatio = `${world.width} / ${world.height}`;
      const size = [Math.round(width * ratio), Math.round(width * ratio * world.height / world.width)];
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(this.field(), 0, 0, width, this.scale * world.height);
      pen.save();
      pen.scale(this.scale, this.scale);
      if ($("best").checked) this.arrows(pen, (k) => page.moves[largest(at(world.best, k))],
        css("--better"), 0.16);
      if ($("own").checked) this.arrows(pen, (k) => {
        const policy = at(moment.policy, k);
        return [0, 1].map((axis) => expected(policy, page.moves.map((by) => by[axis])));
      }, css("--own"), 0.06);
      this.goal(pen);
      this.trails(pen);
      this.cross(pen);
      pen.restore();
      this.handle.style.left = `${100 * this.start[1] / world.width}%`;
      this.handle.style.top = `${100 * this.start[0] / world.height}%`;
    }

    field() {
      const { run, moment } = this;
      const { world } = run;
      const map = MAPS[$("map").value];
      const n = world.perUnit;
      const image = new ImageData(world.width * n, world.height * n);
      const stops = palette(map.colours);
      const [wall, free] = [rgb(css("--wall")), rgb(css("--free"))];
      const there = !map.there || map.there(run, moment);
      const top = there && map.logarithmic ? map.top(run) : 0;
      const [low, high] = map.logarithmic ? [top - 4, top] : map.range;
      world.squares.forEach((k, place) => {
        let colour = k < 0 ? wall : free;
        if (k >= 0 && there) {
          const value = map.value(run, moment, k);
          if (!map.logarithmic) colour = shade(stops, (value - low) / (high - low));
          else if (value > NONE) colour = shade(stops, 0.15 + 0.85 * (value - low) / (high - low));
        }
        image.data.set([...colour, 255], 4 * place);
      });
      const ends = map.logarithmic ? [short(10 ** low), short(10 ** high)]
        : [number(low, 1), number(high, 1)];
      const legend = this.part(".legend");
      legend.children[0].textContent = there ? ends[0] : map.missing;
      legend.children[2].textContent = there ? ends[1] : "";
      legend.children[1].style.background = there
        ? `linear-gradient(90deg,${stops.map((stop) => `rgb(${stop})`)})` : "none";
      const buffer = document.createElement("canvas");
      [buffer.width, buffer.height] = [image.width, image.height];
      buffer.getContext("2d").putImageData(image, 0, 0);
      return buffer;
    }

    arrows(pen, direction, colour, width) {
      const { world } = this.run;
      // One arrow per cell; several in small mazes, and fewer on small screens.
      const count = this.scale < 18 ? 0.5
        : Math.max(1, Math.floor(12 / Math.max(world.height, world.width)));
      const length = 0.8 / count;
      pen.strokeStyle = pen.fillStyle = colour;
      pen.lineCap = "butt";
      for (let i = 0; i < world.height * count; i++)
        for (let j = 0; j < world.width * count; j++) {
          const [y, x] = [(i + 0.5) / count, (j + 0.5) / count];
          const k = lookup(world, [y, x]);
          if (k < 0) continue;
          const [dy, dx] = direction(k);
          const size = Math.hypot(dy, dx);
          pen.beginPath();
          if (size < 0.05) {
            pen.arc(x, y, width * 0.8 / count, 0, 7);
            pen.fill();
            continue;
          }
          const [uy, ux] = [dy / size, dx / size];
          const half = size * length / 2;
          const head = Math.min(half, (width * 1.5 + 0.1) / count);
          const side = head * 0.75;
          pen.lineWidth = width / count;
          pen.moveTo(x - ux * half, y - uy * half);
          pen.lineTo(x + ux * (half - head), y + uy * (half - head));
          pen.stroke();
          pen.beginPath();
          pen.moveTo(x + ux * half, y + uy * half);
          pen.lineTo(x + ux * (half - head) - uy * side, y + uy * (half - head) + ux * side);
          pen.lineTo(x + ux * (half - head) + uy * side, y + uy * (half - head) - ux * side);
          pen.fill();
        }
    }

    goal(pen) {
      const { goal, radius } = this.run.world;
      pen.strokeStyle = css("--goal");
      pen.lineWidth = 2.5 / this.scale;
      pen.beginPath();
      pen.arc(goal[1], goal[0], radius, 0, 7);
      pen.stroke();
      pen.fillStyle = css("--goal");
      pen.font = `700 ${20 / this.scale}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineWidth = 4 / this.scale;
      pen.strokeStyle = css("--free");
      pen.strokeText("G", goal[1], goal[0]);
      pen.fillText("G", goal[1], goal[0]);
    }

    trails(pen) {
      pen.lineJoin = "round";
      for (const episode of this.episodes) {
        const ended = episode.done;
        for (const [colour, width] of [[css("--free"), 3.2], [css("--probe"), 1.4]]) {
          if (ended && width > 2) continue;
          pen.globalAlpha = ended ? 0.6 : 0.9;
          pen.strokeStyle = colour;
          pen.lineWidth = width / this.scale;
          pen.beginPath();
          for (const [y, x] of episode.path.slice(ended ? 0 : -8)) pen.lineTo(x, y);
          pen.stroke();
        }
        pen.globalAlpha = 1;
        const [y, x] = episode.path[episode.path.length - 1];
        pen.beginPath();
        pen.arc(x, y, 4.5 / this.scale, 0, 7);
        pen.fillStyle = ended && episode.reached ? css("--goal") : css("--probe");
        pen.fill();
        pen.strokeStyle = css("--free");
        pen.lineWidth = 1.5 / this.scale;
        pen.stroke();
      }
    }

    cross(pen) {
      const { world } = this.run;
      const [y, x] = [probe[0] * world.height, probe[1] * world.width];
      const r = 7 / this.scale;
      for (const [colour, width] of [["#ffffff", 4.5], [css("--probe"), 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width / this.scale;
        pen.beginPath();
        pen.arc(x, y, r, 0, 7);
        pen.moveTo(x - 2 * r, y); pen.lineTo(x - r, y);
        pen.moveTo(x + r, y); pen.lineTo(x + 2 * r, y);
        pen.moveTo(x, y - 2 * r); pen.lineTo(x, y - r);
        pen.moveTo(x, y + r); pen.lineTo(x, y + 2 * r);
        pen.stroke();
      }
    }

    tell() {
      const { run, moment } = this;
      const { world } = run;
      this.part(".about").textContent = `${world.title}, discount ${run.discount}, `
        + `step ${moment.step.toLocaleString("en")}: exact return ${number(moment.return)}`;
      const place = [probe[0] * world.height, probe[1] * world.width];
      const k = lookup(world, place);
      const cell = lookup(world, place, 1);
      const where = `row ${place[0].toFixed(1)}, column ${place[1].toFixed(1)}`;
      const readout = this.part(".readout");
      if (k < 0) {
        readout.innerHTML = `<p>At ${where} is a wall.</p>`;
      } else {
        const [exact, best, policy] = [moment.exact, world.best, moment.policy]
          .map((field) => at(field, k));
        const learned = moment.learned && at(moment.learned, k);
        const stay = 10 ** moment.occupancy[0][k];
        const rows = ACTIONS.map((name, a) => `<tr${policy[a] > 0.5 ? ' class="chosen"' : ""}>
          <td>${name}${a === largest(best) ? " ★" : ""}</td>
          <td>${learned ? number(learned[a]) : "—"}</td><td>${number(exact[a])}</td>
          <td>${number(best[a])}</td><td>${Math.round(100 * policy[a])}&nbsp;%</td>
          <td>${run.counts && cell >= 0 ? Math.round(run.counts[a][cell]).toLocaleString("en") : "—"}</td></tr>`);
        readout.innerHTML = `<p>At ${where}: V ${number(expected(policy, exact))},
          ${stay < 1e-5 ? "no" : stay.toPrecision(2)} steps per episode and cell</p>
          <table><thead><tr><th>Action</th><th>Q&#770;</th><th>Q</th><th>Best</th><th>Policy</th>
          <th>Data</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
      }
      this.part(".numbers tbody").replaceChildren(...moment.numbers.map((pair) => {
        const row = document.createElement("tr");
        row.append(...pair.map((text) => {
          const cell = document.createElement("td");
          cell.textContent = text;
          return cell;
        }));
        return row;
      }));
      const ended = this.episodes.filter((episode) => episode.done);
      const goals = ended.filter((episode) => episode.reached).length;
      const mean = ended.reduce((sum, episode) => sum + episode.total, 0) / ended.length;
      this.part(".result").textContent = this.episodes.length
        ? `${goals} of ${this.episodes.length} episodes reached the goal`
          + (ended.length === this.episodes.length ? `; mean return ${number(mean, 1)}` : "")
        : "";
    }
  }

  // Controls

  const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const arrow = (event) => ARROWS[event.key];
  let waiting = false;

  function refresh() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const panel of shown()) { panel.draw(); panel.tell(); }
    });
  }

  function restart() {
    for (const panel of shown())
      panel.episodes = Array.from({ length: EPISODES },
        (_, k) => new Episode(panel.run, panel.moment, panel.start, 1000 * seed + k));
    seed++;
  }

  function advance() {
    const open = shown().flatMap((panel) => panel.episodes).filter((episode) => !episode.done);
    open.forEach((episode) => episode.step());
    return open.length > 0;
  }

  function play(on) {
    playing = on;
    if (on) {
      const open = shown().some((panel) => panel.episodes.some((episode) => !episode.done));
      if (!open) restart();
      if (still.matches) { while (advance()); playing = false; }
      clock = 0;
      requestAnimationFrame(frame);
    }
    $("play").textContent = playing ? "Pause" : "Play episodes";
    refresh();
  }

  function frame(now) {
    if (!playing) return;
    if (now - clock >= STEP_MS) {
      clock = now;
      if (!advance()) return play(false);
      refresh();
    }
    requestAnimationFrame(frame);
  }

  function choose() {
    const before = steps()[$("step").value] ?? Infinity;
    for (const panel of panels) {
      panel.visible = $(`run${panel.index}`).checked;
      panel.article.hidden = !panel.visible;
    }
    const all = steps();
    $("step").max = Math.max(0, all.length - 1);
    $("step").value = Math.max(0, all.filter((step) => step <= before).length - 1);
    $("step").disabled = all.length < 2;
    const notes = [];
    if (!all.length) notes.push("Choose a run.");
    else if (all.length < 2) notes.push("There is one agent of each run here, that of its end.");
    $("note").textContent = notes.join(" ");
    slide();
  }

  function slide() {
    const step = steps()[$("step").value];
    $("at").textContent = step === undefined ? "" : `step ${step.toLocaleString("en")}`;
    $("step").setAttribute("aria-valuetext", $("at").textContent);
    for (const panel of panels) panel.episodes = [];
    if (playing) restart();
    refresh();
  }

  /** Returns a free place beside the start, as fractions of the maze. */
  function beside(world) {
    const places = Object.values(ARROWS).reverse()
      .map((by) => [0, 1].map((axis) => world.start[axis] + 1.3 * by[axis]));
    const free = places.find((place) => place[0] > 0 && place[1] > 0
      && place[0] < world.height && place[1] < world.width && lookup(world, place) >= 0);
    const [y, x] = free || world.start;
    return [y / world.height, x / world.width];
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target.closest("input, select, button, summary");
    const by = arrow(event);
    const [first] = shown();
    if (!first || on) return;
    const { world } = first.run;
    if (by) {
      const n = event.shiftKey ? 1 : world.perUnit;
      probe = [probe[0] + by[0] / (world.height * n), probe[1] + by[1] / (world.width * n)]
        .map((share) => Math.min(0.9999, Math.max(0, share)));
      refresh();
    } else if (event.key === " ") {
      play(!playing);
    } else if (event.key === "Enter") {
      for (const panel of shown())
        panel.moveStart([probe[0] * panel.run.world.height, probe[1] * panel.run.world.width]);
    } else {
      return;
    }
    event.preventDefault();
  }

  try {
    await prepare();
  } catch (error) {
    $("note").textContent = "This browser cannot read the data; one from 2023 or later can.";
    throw error;
  }
  for (const [name, map] of Object.entries(MAPS)) $("map").add(new Option(map.title, name));
  page.runs.forEach((run, index) => {
    const panel = new Panel(run, index);
    panels.push(panel);
    const label = document.createElement("label");
    label.className = "chip";
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", id: `run${index}`, checked: panel.visible });
    box.addEventListener("change", choose);
    label.append(box, ` ${run.name}`);
    $("runs").append(label);
  });
  probe = beside(page.runs[0].world);
  $("step").max = steps().length - 1;
  $("step").value = $("step").max;
  for (const id of ["map", "own", "best"]) $(id).addEventListener("change", refresh);
  $("step").addEventListener("input", slide);
  $("play").addEventListener("click", () => play(!playing));
  $("home").addEventListener("click", () => {
    for (const panel of panels) { panel.start = panel.run.world.start; panel.episodes = []; }
    if (playing) restart();
    refresh();
  });
  document.addEventListener("keydown", keys);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  new ResizeObserver(refresh).observe($("panels"));
  choose();

  // For the browser's console, and for tests.
  window.explorer = { page, panels, move, lookup, Episode, probe: () => probe };
})();
