// wxhub client. Built from web/sdk/src by `npm run build`; do not edit.
"use strict";
var __defProp = Object.defineProperty;
var __defProps = Object.defineProperties;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropDescs = Object.getOwnPropertyDescriptors;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __getOwnPropSymbols = Object.getOwnPropertySymbols;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __propIsEnum = Object.prototype.propertyIsEnumerable;
var __defNormalProp = (obj, key, value) => key in obj ? __defProp(obj, key, { enumerable: true, configurable: true, writable: true, value }) : obj[key] = value;
var __spreadValues = (a, b) => {
  for (var prop in b || (b = {}))
    if (__hasOwnProp.call(b, prop))
      __defNormalProp(a, prop, b[prop]);
  if (__getOwnPropSymbols)
    for (var prop of __getOwnPropSymbols(b)) {
      if (__propIsEnum.call(b, prop))
        __defNormalProp(a, prop, b[prop]);
    }
  return a;
};
var __spreadProps = (a, b) => __defProps(a, __getOwnPropDescs(b));
var __objRest = (source, exclude) => {
  var target = {};
  for (var prop in source)
    if (__hasOwnProp.call(source, prop) && exclude.indexOf(prop) < 0)
      target[prop] = source[prop];
  if (source != null && __getOwnPropSymbols)
    for (var prop of __getOwnPropSymbols(source)) {
      if (exclude.indexOf(prop) < 0 && __propIsEnum.call(source, prop))
        target[prop] = source[prop];
    }
  return target;
};
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);
var __async = (__this, __arguments, generator) => {
  return new Promise((resolve, reject) => {
    var fulfilled = (value) => {
      try {
        step(generator.next(value));
      } catch (e) {
        reject(e);
      }
    };
    var rejected = (value) => {
      try {
        step(generator.throw(value));
      } catch (e) {
        reject(e);
      }
    };
    var step = (x) => x.done ? resolve(x.value) : Promise.resolve(x.value).then(fulfilled, rejected);
    step((generator = generator.apply(__this, __arguments)).next());
  });
};

// src/index.ts
var index_exports = {};
__export(index_exports, {
  ApiError: () => ApiError,
  CloseCode: () => CloseCode,
  HubError: () => HubError,
  WxApi: () => WxApi,
  WxHub: () => WxHub,
  browserTransport: () => browserTransport,
  followApp: () => followApp,
  followPage: () => followPage,
  wxTransport: () => wxTransport
});
module.exports = __toCommonJS(index_exports);

// src/backoff.ts
function fullJitter(attempt, backoff, random) {
  const bound = Math.min(backoff.cap, backoff.base * 2 ** Math.min(attempt, 30));
  return Math.floor(random() * bound);
}

// src/options.ts
function withDefaults(options) {
  return __spreadValues({
    tokenIn: "auto",
    backoff: { base: 1e3, cap: 3e4 },
    connectTimeout: 1e4,
    requestTimeout: 1e4,
    random: Math.random
  }, options);
}

// src/protocol.ts
var CloseCode = {
  restart: 1012,
  fault: 1011,
  tooBig: 1009,
  tokenExpired: 4401,
  silent: 4408,
  slow: 4413,
  tooMany: 4429,
  abuse: 4500,
  tokenBad: 4501,
  blocked: 4503,
  replaced: 4509
};
function staysAway(code) {
  return code !== void 0 && code >= 4500;
}
function parseReason(reason) {
  const [word = "", ...fields] = reason.split(";");
  for (const field of fields) {
    const [key, value = ""] = field.split("=");
    if (key === "retry" && /^\d{1,9}$/.test(value)) return { word, retry: Number(value) };
  }
  return { word };
}
var HubError = class extends Error {
  constructor(error, message) {
    super(message);
    this.name = "HubError";
    this.error = error;
  }
};

// src/room.ts
var remembered = 512;
var Room = class {
  constructor(name, mail) {
    this.name = name;
    this.mail = mail;
    this.listeners = /* @__PURE__ */ new Set();
    this.joined = false;
    this.standing = { recovered: false, missed: 0 };
    /** acknowledged by the page up to here, and told to the server up to there */
    this.ackWanted = 0;
    this.ackSent = 0;
    this.seen = /* @__PURE__ */ new Set();
    this.gapAt = "";
  }
  /** Mail belongs to a person: another one signed in, and nothing of the former holds. */
  rename(name) {
    this.name = name;
    this.position = void 0;
    this.seen.clear();
    this.ackWanted = this.ackSent = 0;
    this.gapAt = "";
  }
  /**
   * Takes what the server says about our place, given the position that we brought.
   * True: there was a position and the history no longer reaches back to it.
   */
  settle(standing, brought) {
    var _a, _b;
    this.joined = true;
    const recovered = brought !== void 0 && ((_a = standing.recovered) != null ? _a : standing.epoch === brought.epoch && standing.offset >= brought.offset);
    this.standing = { recovered, missed: recovered ? (_b = standing.missed) != null ? _b : standing.offset - brought.offset : 0 };
    if (recovered) return false;
    this.startAt(this.mail ? void 0 : { epoch: standing.epoch, offset: standing.offset });
    return brought !== void 0;
  }
  /** Whether this push belongs to another life of the stream than our position. */
  isNewEpoch(push) {
    const { epoch, offset } = push.meta;
    return !!offset && this.position !== void 0 && this.position.epoch !== epoch;
  }
  /** Judges a push and moves the position. After 'gap' nothing has moved. */
  judge(push) {
    const { epoch, offset, id } = push.meta;
    if (epoch !== void 0 && offset) {
      const place = this.isNewEpoch(push) ? void 0 : this.position;
      if (place && offset <= place.offset) return "repeat";
      if (place && offset > place.offset + 1) return "gap";
      this.startAt({ epoch, offset });
    }
    if (id === void 0) return "deliver";
    if (this.seen.has(id)) return "repeat";
    this.seen.add(id);
    if (this.seen.size > remembered) this.seen.delete(this.seen.values().next().value);
    return "deliver";
  }
  /** True when the same place showed the same gap before: asking again would not fill it. */
  gapAgain() {
    const here = this.position ? `${this.position.epoch}:${this.position.offset}` : "";
    const again = here === this.gapAt;
    this.gapAt = here;
    return again;
  }
  /** Goes on from just before this push, whatever lay between. */
  jumpTo(push) {
    this.position = { epoch: push.meta.epoch, offset: push.meta.offset - 1 };
  }
  startAt(position) {
    var _a;
    if (((_a = this.position) == null ? void 0 : _a.epoch) !== (position == null ? void 0 : position.epoch)) this.ackWanted = this.ackSent = 0;
    this.position = position;
  }
};

// src/session.ts
var Session = class {
  constructor(transport, target, limits, events) {
    this.limits = limits;
    this.events = events;
    /** when the welcome came; 0: not yet */
    this.upSince = 0;
    this.shook = false;
    this.welcomed = false;
    this.ended = false;
    this.heard = 0;
    this.silence = 0;
    // milliseconds without a frame that make a dead line
    this.nextId = 1;
    this.questions = /* @__PURE__ */ new Map();
    this.watch = setTimeout(() => this.drop("timeout"), limits.connectTimeout);
    try {
      this.line = transport(target, {
        open: () => void (this.shook = true),
        message: (text) => this.receive(text),
        close: (code, reason) => this.end(code, reason)
      });
    } catch (error) {
      events.error(error);
      void Promise.resolve().then(() => this.end(void 0, ""));
    }
  }
  /** Rejects with HubError: the server's word, "timeout" or "disconnected". */
  ask(action, fields = {}) {
    return new Promise((resolve, reject) => {
      if (this.ended || !this.welcomed) return reject(new HubError("disconnected", "the hub is not connected"));
      const id = this.nextId++;
      const timer = setTimeout(() => {
        this.questions.delete(id);
        reject(new HubError("timeout", `no answer to ${action}`));
      }, this.limits.requestTimeout);
      this.questions.set(id, { resolve, reject, timer });
      this.send(__spreadValues({ id, action }, fields));
    });
  }
  /** Replaces the line unless something is heard within `wait` milliseconds. */
  probe(wait) {
    if (this.ended || this.probing !== void 0) return;
    const before = this.heard;
    this.ask("ping").catch(() => void 0);
    this.probing = setTimeout(() => {
      this.probing = void 0;
      if (this.heard === before) this.drop("silent");
    }, wait);
  }
  /** Gives the line up and reports the end. */
  drop(reason) {
    var _a;
    (_a = this.line) == null ? void 0 : _a.close(4e3, reason);
    this.end(void 0, reason);
  }
  /** Closes the line for good; nothing is reported. */
  close() {
    var _a;
    if (this.ended) return;
    this.letGo();
    (_a = this.line) == null ? void 0 : _a.close(1e3, "closed");
  }
  receive(text) {
    if (this.ended) return;
    this.heard = Date.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch (e) {
      return this.events.error(new Error(`hub: a frame that is no JSON: ${text.slice(0, 80)}`));
    }
    if (typeof frame !== "object" || frame === null) return;
    if ("reply" in frame) this.answered(frame);
    else if ("ping" in frame) this.send({ pong: frame.ping });
    else if (frame.meta && frame.data) this.pushed(frame);
  }
  answered(_a) {
    var _b = _a, { reply: id, ok } = _b, fields = __objRest(_b, ["reply", "ok"]);
    var _a2, _b2;
    if (id === null && ok && fields.room) return this.events.joined(fields);
    const question = this.questions.get(id);
    if (!question) return;
    this.questions.delete(id);
    clearTimeout(question.timer);
    if (ok) return question.resolve(fields);
    const word = String((_a2 = fields.error) != null ? _a2 : "refused");
    question.reject(new HubError(word, String((_b2 = fields.message) != null ? _b2 : word)));
  }
  pushed(push) {
    if (this.welcomed) return this.events.push(push);
    if (push.data.action !== "welcome") return;
    const welcome = push.data.payload;
    this.welcomed = true;
    this.upSince = Date.now();
    this.silence = 2e3 * (welcome.heartbeat || 25);
    clearTimeout(this.watch);
    this.listen(this.silence);
    this.events.welcome(welcome);
  }
  /** One timer, however many frames: it looks when the newest one came. */
  listen(wait) {
    this.watch = setTimeout(() => {
      const left = this.heard + this.silence - Date.now();
      if (left > 0) this.listen(left);
      else this.drop("silent");
    }, wait);
  }
  send(frame) {
    var _a;
    try {
      (_a = this.line) == null ? void 0 : _a.send(JSON.stringify(frame));
    } catch (error) {
      this.events.error(error);
    }
  }
  end(code, reason) {
    if (this.ended) return;
    this.letGo();
    this.events.end(code, reason, this.shook);
  }
  letGo() {
    this.ended = true;
    clearTimeout(this.watch);
    clearTimeout(this.probing);
    const open = [...this.questions.values()];
    this.questions.clear();
    for (const question of open) {
      clearTimeout(question.timer);
      question.reject(new HubError("disconnected", "the line was lost before an answer"));
    }
  }
};

// src/hub.ts
var stableAfter = 5e3;
var ackEvery = 1e3;
var knockFrom = 1e3;
var wakeWait = 3e3;
var WxHub = class {
  // rooms that could not be had
  constructor(options) {
    this.state = "disconnected";
    /** this connection's id and person, once welcomed */
    this.client = "";
    this.user = "";
    this.rooms = /* @__PURE__ */ new Map();
    // its name is '' until the welcome says whose it is
    this.handlers = {
      state: /* @__PURE__ */ new Set(),
      welcome: /* @__PURE__ */ new Set(),
      push: /* @__PURE__ */ new Set(),
      error: /* @__PURE__ */ new Set()
    };
    this.round = 0;
    // of tries; an older one that is still asking for its token ends when it sees another
    this.brought = /* @__PURE__ */ new Map();
    // the rooms in the query of this try
    this.freshToken = false;
    this.attempts = 0;
    this.failed = 0;
    // handshakes in a row without a close code
    this.queryHelped = false;
    // the last line came up with the token in the query only
    this.hintUntil = 0;
    this.knockTimers = /* @__PURE__ */ new Map();
    this.options = withDefaults(options);
  }
  /** Listens; the returned function ends it. */
  on(event, handler) {
    this.handlers[event].add(handler);
    return () => void this.handlers[event].delete(handler);
  }
  /** Starts. While connecting or connected it does nothing. */
  connect() {
    if (this.state !== "disconnected") return;
    this.attempts = this.failed = this.hintUntil = 0;
    this.become({ state: "connecting" });
    void this.dial();
  }
  /** Ends the line and stays disconnected until connect(). Rooms and positions are kept. */
  close() {
    if (this.state === "disconnected") return;
    this.flushAcks();
    const session = this.session;
    this.letGo();
    session == null ? void 0 : session.close();
    this.become({ state: "disconnected", reason: "closed" });
  }
  /**
   * The app is back on the screen, or the network is. A pending retry happens now (not before the server's
   * own hint); an open line must answer within three seconds, since it may have died while we slept.
   */
  wake() {
    var _a;
    if (this.state === "connected") return (_a = this.session) == null ? void 0 : _a.probe(wakeWait);
    if (this.retryTimer === void 0 || Date.now() < this.hintUntil) return;
    this.attempts = 0;
    this.retryIn(0);
  }
  /** The app goes to the background, where the network freezes after seconds: what waits is said now. */
  hide() {
    this.flushAcks();
  }
  /** Joins a room, at once or with the next line. `since` is a position kept from an earlier run. */
  join(name, handlers = {}, options = {}) {
    let room = this.find(name);
    if (!room) {
      room = new Room(name, name.startsWith("user:"));
      room.position = options.since;
      this.rooms.set(name, room);
      if (this.state === "connected") this.knock(room);
    }
    return this.enter(room, handlers);
  }
  /**
   * Hears this person's own mail, which needs no join; call it before connect(). Mail is acknowledged by
   * itself as it is handed over, and what was not acknowledged comes again.
   */
  mail(handlers) {
    var _a;
    if (!this.mailRoom) {
      this.mailRoom = new Room("", true);
      if (this.state === "connected") (_a = this.session) == null ? void 0 : _a.drop("mail");
    }
    return this.enter(this.mailRoom, handlers);
  }
  publish(room, action, payload) {
    return this.request("publish", { room, data: { action, payload } });
  }
  presence(room) {
    return this.request("presence", { room });
  }
  history(room, query = {}) {
    return this.request("history", __spreadValues({ room }, query));
  }
  /** See Membership.ack. */
  ack(name, offset) {
    var _a;
    const room = this.find(name);
    if (!room || offset <= room.ackWanted) return;
    room.ackWanted = offset;
    (_a = this.ackTimer) != null ? _a : this.ackTimer = setTimeout(() => this.flushAcks(), ackEvery);
  }
  /** Gives the open line a new token, so that it outlives the old one. Without `token`, getToken is asked. */
  refresh(token) {
    return __async(this, null, function* () {
      yield this.request("refresh", { token: token != null ? token : yield this.options.getToken(true) });
    });
  }
  /** Asks once the line is there; rejects with HubError: the server's word, "timeout" or "disconnected". */
  request(action, fields) {
    return __async(this, null, function* () {
      if (this.state === "connecting") yield this.untilConnected();
      if (!this.session) throw new HubError("disconnected", "the hub is disconnected");
      return yield this.session.ask(action, fields);
    });
  }
  untilConnected() {
    return new Promise((resolve, reject) => {
      const done = (error) => {
        clearTimeout(timer);
        off();
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => done(new HubError("timeout", "no connection in time")), this.options.requestTimeout);
      const off = this.on("state", ({ state }) => {
        if (state === "connected") done();
        if (state === "disconnected") done(new HubError("disconnected", "the hub is disconnected"));
      });
    });
  }
  // —— rooms
  find(name) {
    var _a, _b;
    return (_b = this.rooms.get(name)) != null ? _b : name && ((_a = this.mailRoom) == null ? void 0 : _a.name) === name ? this.mailRoom : void 0;
  }
  allRooms() {
    return this.mailRoom ? [...this.rooms.values(), this.mailRoom] : [...this.rooms.values()];
  }
  enter(room, handlers) {
    room.listeners.add(handlers);
    if (room.joined && room.position) {
      const standing = __spreadProps(__spreadValues({}, room.standing), { position: room.position });
      void Promise.resolve().then(() => this.guard(() => {
        var _a;
        return (_a = handlers.onJoin) == null ? void 0 : _a.call(handlers, standing);
      }));
    }
    return {
      get room() {
        return room.name;
      },
      leave: () => this.quit(room, handlers),
      publish: (action, payload) => this.publish(room.name, action, payload),
      presence: () => this.presence(room.name),
      history: (query) => this.history(room.name, query),
      ack: (offset) => this.ack(room.name, offset)
    };
  }
  quit(room, handlers) {
    var _a;
    if (!room.listeners.delete(handlers) || room.listeners.size > 0 || room === this.mailRoom) return;
    this.rooms.delete(room.name);
    (_a = this.session) == null ? void 0 : _a.ask("leave", { room: room.name }).catch(() => void 0);
  }
  /** Asks to be let in on the open line. */
  knock(room) {
    const session = this.session;
    const since = room.position;
    session == null ? void 0 : session.ask("join", __spreadValues({ room: room.name }, since && { since })).then(
      (reply) => {
        if (session === this.session) this.admit(room, reply, since);
      },
      (error) => {
        if (session !== this.session) return;
        if (error.error === "unavailable" || error.error === "timeout") return this.knockLater(room);
        this.each(room, (h) => {
          var _a;
          return (_a = h.onError) == null ? void 0 : _a.call(h, error);
        });
      }
    );
  }
  /** The hub cannot look the room up just now: the line stays, and asks again. */
  knockLater(room) {
    const wait = knockFrom * (1 + this.options.random());
    clearTimeout(this.knockTimers.get(room));
    this.knockTimers.set(room, setTimeout(() => {
      this.knockTimers.delete(room);
      if (!room.joined && this.find(room.name) === room) this.knock(room);
    }, wait));
  }
  admit(room, standing, brought) {
    var _a;
    const lost = room.settle(standing, brought);
    const position = { epoch: standing.epoch, offset: standing.offset };
    if (lost) this.each(room, (h) => {
      var _a2;
      return (_a2 = h.onReload) == null ? void 0 : _a2.call(h, "lost");
    });
    this.each(room, (h) => {
      var _a2;
      return (_a2 = h.onJoin) == null ? void 0 : _a2.call(h, __spreadProps(__spreadValues({}, room.standing), { position }));
    });
    if (lost && room.mail) (_a = this.session) == null ? void 0 : _a.drop("mail");
  }
  pushed(push) {
    const room = this.find(push.meta.room);
    if (!room || this.deliver(room, push)) this.tell("push", push);
  }
  /** Reports whether the page got it. */
  deliver(room, push) {
    var _a;
    const { action, payload } = push.data;
    if (!push.meta.offset && (action === "join" || action === "leave")) {
      const user = payload.user;
      this.each(room, (h) => {
        var _a2;
        return (_a2 = h.onPresence) == null ? void 0 : _a2.call(h, { action, user });
      });
      return true;
    }
    if (room.isNewEpoch(push)) this.each(room, (h) => {
      var _a2;
      return (_a2 = h.onReload) == null ? void 0 : _a2.call(h, "epoch");
    });
    let verdict = room.judge(push);
    if (verdict === "gap") {
      if (!room.gapAgain()) {
        (_a = this.session) == null ? void 0 : _a.drop("gap");
        return false;
      }
      this.each(room, (h) => {
        var _a2;
        return (_a2 = h.onReload) == null ? void 0 : _a2.call(h, "gap");
      });
      room.jumpTo(push);
      verdict = room.judge(push);
    }
    if (verdict === "deliver") this.each(room, (h) => {
      var _a2;
      return (_a2 = h.onMessage) == null ? void 0 : _a2.call(h, push);
    });
    if (room.mail && push.meta.offset) this.ack(room.name, push.meta.offset);
    return verdict === "deliver";
  }
  flushAcks() {
    var _a;
    clearTimeout(this.ackTimer);
    this.ackTimer = void 0;
    if (this.state !== "connected") return;
    for (const room of this.allRooms()) {
      const offset = room.ackWanted;
      if (offset <= room.ackSent) continue;
      const before = room.ackSent;
      room.ackSent = offset;
      (_a = this.session) == null ? void 0 : _a.ask("ack", { room: room.name, offset }).catch(() => {
        if (room.ackSent === offset) room.ackSent = before;
      });
    }
  }
  // —— the line
  dial() {
    return __async(this, null, function* () {
      const round = ++this.round;
      this.retryTimer = void 0;
      let token;
      try {
        token = yield this.options.getToken(this.freshToken);
      } catch (error) {
        if (round !== this.round) return;
        this.tell("error", asError(error));
        return this.lost(void 0, "no_token");
      }
      if (round !== this.round) return;
      this.freshToken = false;
      const session = new Session(this.options.transport, this.target(token), this.options, {
        welcome: (welcome) => this.welcomed(session, welcome),
        push: (push) => this.pushed(push),
        joined: (standing) => {
          const room = this.find(standing.room);
          if (room && !room.joined) this.admit(room, standing, this.brought.get(room));
        },
        end: (code, reason, shook) => {
          if (!shook && code === void 0) {
            this.failed++;
            this.freshToken = true;
          }
          this.lost(code, reason);
        },
        error: (error) => this.tell("error", asError(error))
      });
      if (round === this.round) this.session = session;
    });
  }
  target(token) {
    const { url } = this.options;
    let { tokenIn } = this.options;
    if (tokenIn === "auto") {
      const over = this.failed - (this.queryHelped ? 1 : 2);
      tokenIn = over >= 0 && over % 2 === 0 ? "query" : "protocol";
    }
    const query = tokenIn === "query" ? [`token=${encodeURIComponent(token)}`] : [];
    this.brought.clear();
    for (const room of this.allRooms()) {
      if (!room.name) continue;
      this.brought.set(room, room.position);
      const place = room.position ? `@${room.position.epoch}:${room.position.offset}` : "";
      query.push(`room=${encodeURIComponent(room.name + place)}`);
    }
    const base = (typeof url === "function" ? url() : url).replace(/^http/, "ws");
    const mark = base.includes("?") ? "&" : "?";
    return {
      url: query.length ? base + mark + query.join("&") : base,
      protocols: tokenIn === "protocol" ? ["wxhub.v1", `bearer.${token}`] : [],
      header: tokenIn === "header" ? { Authorization: `Bearer ${token}` } : {}
    };
  }
  welcomed(session, welcome) {
    var _a;
    this.client = welcome.client;
    this.user = welcome.user;
    this.queryHelped = this.failed >= (this.queryHelped ? 1 : 2);
    this.failed = 0;
    const mailName = `user:${welcome.user}`;
    if (this.mailRoom && this.mailRoom.name !== mailName) {
      this.brought.delete(this.mailRoom);
      this.mailRoom.rename(mailName);
    }
    this.become({ state: "connected" });
    this.tell("welcome", welcome);
    const standings = new Map(((_a = welcome.rooms) != null ? _a : []).map((standing) => [standing.room, standing]));
    for (const room of this.allRooms()) {
      if (session !== this.session) return;
      const standing = standings.get(room.name);
      if (standing && (this.brought.has(room) || !room.position)) this.admit(room, standing, this.brought.get(room));
      else this.knock(room);
    }
    this.flushAcks();
  }
  lost(code, reason) {
    var _a;
    const lived = ((_a = this.session) == null ? void 0 : _a.upSince) ? Date.now() - this.session.upSince : 0;
    this.letGo();
    const { word, retry } = parseReason(reason);
    if (staysAway(code)) return this.become({ state: "disconnected", code, reason: word });
    if (lived >= stableAfter) this.attempts = 0;
    if (code === CloseCode.tokenExpired) this.freshToken = true;
    this.hintUntil = retry === void 0 ? 0 : Date.now() + retry;
    this.retryIn(retry != null ? retry : fullJitter(this.attempts++, this.options.backoff, this.options.random), code, word);
  }
  retryIn(wait, code, reason) {
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.dial(), wait);
    this.become({ state: "connecting", code, reason, retryIn: wait });
  }
  letGo() {
    this.round++;
    this.session = void 0;
    clearTimeout(this.retryTimer);
    this.retryTimer = void 0;
    for (const timer of this.knockTimers.values()) clearTimeout(timer);
    this.knockTimers.clear();
    for (const room of this.allRooms()) room.joined = false;
  }
  // —— telling
  become(change) {
    this.state = change.state;
    this.tell("state", change);
  }
  tell(event, value) {
    const handlers = [...this.handlers[event]];
    for (const handler of handlers) {
      if (event === "error") handler(value);
      else this.guard(() => handler(value));
    }
  }
  each(room, call) {
    for (const handlers of [...room.listeners]) this.guard(() => call(handlers));
  }
  /** A page's handler that throws must not stop the others, nor the socket. */
  guard(call) {
    try {
      call();
    } catch (error) {
      this.tell("error", asError(error));
    }
  }
};
function asError(error) {
  return error instanceof Error ? error : new Error(String(error));
}

// src/transport.ts
function peerCode(code) {
  return code === 1005 || code === 1006 ? void 0 : code;
}

// src/transports/wx.ts
function wxTransport(wx) {
  return (target, events) => {
    let ended = false;
    const end = (code, reason) => {
      if (ended) return;
      ended = true;
      events.close(code, reason);
    };
    const task = wx.connectSocket({
      url: target.url,
      header: target.header,
      protocols: target.protocols,
      tcpNoDelay: true,
      fail: (result) => end(void 0, result.errMsg)
    });
    task.onOpen(() => events.open());
    task.onMessage((result) => {
      if (typeof result.data === "string") events.message(result.data);
    });
    task.onClose((result) => {
      var _a;
      return end(peerCode(result.code), (_a = result.reason) != null ? _a : "");
    });
    task.onError((result) => end(void 0, result.errMsg));
    return {
      send: (text) => task.send({ data: text }),
      close: (code, reason) => task.close({ code, reason })
    };
  };
}

// src/transports/browser.ts
function browserTransport(socketClass = WebSocket) {
  return (target, events) => {
    const socket = new socketClass(target.url, target.protocols);
    socket.onopen = () => events.open();
    socket.onmessage = (event) => {
      if (typeof event.data === "string") events.message(event.data);
    };
    socket.onclose = (event) => events.close(peerCode(event.code), event.reason);
    return {
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, reason)
    };
  };
}

// src/app.ts
function followApp(hub, wx) {
  wx.onAppShow(() => hub.wake());
  wx.onAppHide(() => hub.hide());
  wx.onNetworkStatusChange((result) => {
    if (result.isConnected) hub.wake();
  });
}
function followPage(hub) {
  document.addEventListener("visibilitychange", () => document.hidden ? hub.hide() : hub.wake());
  window.addEventListener("online", () => hub.wake());
}

// src/api.ts
var ApiError = class extends Error {
  constructor(status, error, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.error = error;
  }
};
var WxApi = class {
  constructor(options) {
    this.options = options;
    this.held = "";
    this.heldUntil = 0;
    /** A token that is good for another minute at least; fits HubOptions.getToken. */
    this.token = (fresh = false) => __async(this, null, function* () {
      if (fresh || !this.held || Date.now() > this.heldUntil - 6e4) yield this.login();
      return this.held;
    });
  }
  /** wx.login, then the hub's login. Calls at the same time share one, since a code works once. */
  login(profile = {}) {
    var _a;
    (_a = this.signingIn) != null ? _a : this.signingIn = this.signIn(profile).finally(() => {
      this.signingIn = void 0;
    });
    return this.signingIn;
  }
  products() {
    return this.call("GET", "/api/products");
  }
  orders() {
    return this.call("GET", "/api/orders");
  }
  /** A pending order asks WeChat what became of it. */
  order(outTradeNo) {
    return this.call("GET", `/api/orders/${encodeURIComponent(outTradeNo)}`);
  }
  /**
   * Orders, shows the pay sheet and resolves when the person has paid. The shop counts it as paid when WeChat
   * says so: ask order(), or wait for the mail "order.paid". Rejects with ApiError "wx" when the person cancels
   * ("requestPayment:fail cancel").
   */
  pay(what) {
    return __async(this, null, function* () {
      var _a;
      const body = "productId" in what ? { productId: what.productId, quantity: (_a = what.quantity) != null ? _a : 1 } : what;
      const _b = yield this.call("POST", "/api/pay", body), { outTradeNo } = _b, fields = __objRest(_b, ["outTradeNo"]);
      yield new Promise((resolve, reject) => {
        this.options.wx.requestPayment({
          timeStamp: fields.timeStamp,
          nonceStr: fields.nonceStr,
          package: fields.package,
          signType: fields.signType,
          paySign: fields.paySign,
          success: () => resolve(),
          fail: (result) => reject(new ApiError(0, "wx", result.errMsg))
        });
      });
      return { outTradeNo };
    });
  }
  /** Any call of the hub as this person; resolves with the answer's data. */
  call(method, path, body) {
    return __async(this, null, function* () {
      const token = yield this.token();
      try {
        return yield this.send(method, path, body, token);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401) throw error;
        return this.send(method, path, body, yield this.token(this.held === token));
      }
    });
  }
  signIn(profile) {
    return __async(this, null, function* () {
      const code = yield new Promise((resolve, reject) => {
        this.options.wx.login({
          success: (result) => resolve(result.code),
          fail: (result) => reject(new ApiError(0, "wx", result.errMsg))
        });
      });
      const answer = yield this.send("POST", "/api/login", __spreadValues({ code }, profile));
      this.held = answer.token;
      this.heldUntil = Date.now() + answer.expiresIn * 1e3;
      this.user = answer.user;
      return answer.user;
    });
  }
  send(method, path, body, token) {
    return new Promise((resolve, reject) => {
      this.options.wx.request({
        url: this.options.base + path,
        method,
        data: body,
        header: __spreadValues(__spreadValues({}, body && { "Content-Type": "application/json" }), token && { Authorization: `Bearer ${token}` }),
        success: ({ statusCode, data }) => {
          var _a, _b;
          const envelope = data;
          if ((envelope == null ? void 0 : envelope.code) === 1) return resolve(envelope.data);
          const word = (_a = envelope == null ? void 0 : envelope.error) != null ? _a : "bad_answer";
          const status = statusCode === 200 && deadToken.has(word) ? 401 : statusCode;
          reject(new ApiError(status, word, (_b = envelope == null ? void 0 : envelope.message) != null ? _b : `HTTP ${statusCode}`));
        },
        fail: (result) => reject(new ApiError(0, "wx", result.errMsg))
      });
    });
  }
};
var deadToken = /* @__PURE__ */ new Set(["unauthorized", "bad_token", "token_expired", "token_revoked"]);
