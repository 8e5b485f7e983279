"use strict"

const LINES = 500                            // kept on the page; what is older is gone from it
const NAMES = 100                            // people that are listed by name
const PAGES = 10                             // pages of members that are asked for
const AWAY = 15_000                          // ms that others have to come back, too, after the connection was lost
const FINAL = [1000, 1008, 1009, 3503]       // closes after which it is no use to come back

const $ = id => document.getElementById(id)
const me = document.body.dataset.user        // how the others know this browser

// What others say is text, wherever it goes: nothing here makes HTML of a string.
function make(tag, kind, ...content) {
  const element = document.createElement(tag)
  if (kind) element.className = kind
  element.append(...content)
  return element
}

const counted = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`
const pause = ms => new Promise(resolve => setTimeout(resolve, ms))
const patience = failures => Math.random() * Math.min(10_000, 1000 * 2 ** failures)    // not all come back at once

// The connection: it comes back by itself, and says where it was

let name = localStorage.getItem("name") ?? ""
let socket, timer
let position = ""                            // EPOCH:OFFSET up to which everything is shown
let epoch = ""
let client = ""                              // this connection, among the members
let failures = 0

function connect() {
  clearTimeout(timer)
  socket?.close()
  const url = new URL("ws", location.href)
  url.protocol = url.protocol.replace("http", "ws")
  url.searchParams.set("name", name)
  if (position) url.searchParams.set("since", position)
  if ($("slow").checked) url.searchParams.set("slow", "1")
  const current = socket = new WebSocket(url)
  socket.onmessage = ({data}) => current === socket && receive(JSON.parse(data))
  socket.onclose = ({code, reason}) => {
    if (current !== socket) return           // another has taken its place
    if (FINAL.includes(code)) return say("closed", "closed", `The server has closed the connection: ${reason || code}.`)
    say("reconnecting", "reconnecting…", "Reconnecting. What is said meanwhile is shown then, and what you say is sent.")
    timer = setTimeout(connect, patience(failures++))
  }
}

function say(state, words, notice = "") {
  document.body.dataset.state = state
  $("state").textContent = words
  $("notice").textContent = notice
}

function receive({joined, left, gap, presence, offset, data}) {
  if (presence) return presence === "reset" ? ask() : meanwhile ? meanwhile.push(presence) : change(presence)
  if (left) return note("You were taken out of the chat.")
  if (joined) {
    ({epoch, client} = joined)
    position ||= `${joined.epoch}:${joined.offset}`          // else a gap may follow, which has to be shown first
    failures = 0
    return say("live", $("slow").checked ? "slow" : "live")
  }
  gap ? showGap(gap) : showSaid(data)
  epoch = gap?.epochs?.[1] ?? epoch
  position = `${epoch}:${gap?.to ?? offset}`
}

// What was said

const log = $("log"), scroll = $("scroll")
const unsent = new Map()                     // what this page has said and not yet been given back, by its id
const shown = new Map()                      // the lines on the page by the id of what was said

function showSaid(said) {
  const mine = unsent.get(said.id)
  if (mine) fix(mine)                        // it is here already: now it has its place
  else if (!shown.has(said.id)) {
    const item = lineOf(said)
    shown.set(said.id, item)
    put(item)
  }
}

function showGap({from, to, count, reason, epochs}) {
  if (reason === "epoch") {
    [...unsent.values()].filter(each => each.epoch && each.epoch !== epochs[1]).forEach(fix)
    return put(make("li", "gap", "The server began afresh: something may be missing here"))
  }
  const mine = [...unsent.values()].filter(each => each.epoch === epoch && each.offset >= from && each.offset <= to)
  const missing = count - mine.length        // what this page has said itself is not missing
  if (missing) put(make("li", "gap", `${counted(missing, "message")} ${missing === 1 ? "was" : "were"} ${why(reason)}`))
  mine.forEach(fix)
}

function why(reason) {
  if (reason === "slow") return "left out: this line is too slow"
  if (reason === "limit") return "left out: too much was missed"
  return reason === "lost" ? "not kept" : `not told (${reason})`
}

function lineOf({id, user, name, text}) {
  const face = make("span", "face", [...name][0]?.toUpperCase() ?? "?")
  face.setAttribute("aria-hidden", "true")
  const item = make("li", user === me ? "said mine" : "said", face, make("span", "who", name), make("p", "text", text))
  item.dataset.id = id
  item.dataset.user = user
  colour(item, user)
  return item
}

const colour = (element, user) => element.style.setProperty("--hue", parseInt(user.slice(0, 4), 16) % 360)

function note(text) {
  put(make("li", "note", text))
}

/** Put a line at the end of what is told, which is before all that is not sent yet. */
function put(item) {
  const [pending] = unsent.values()
  place(item, pending?.item ?? null)
  while (log.children.length > LINES) {
    shown.delete(log.firstElementChild.dataset.id)
    log.firstElementChild.remove()
  }
}

function place(item, before) {
  log.insertBefore(item, before)
  again(item)
  again(item.nextElementSibling)
  if (atEnd || item.dataset.user === me) toEnd()
  else $("newest").hidden = false
}

/** Whether the line before is of the same person, who need not be named again then. */
function again(item) {
  const before = item?.previousElementSibling
  item?.classList.toggle("again", !!item.dataset.user && before?.dataset.user === item.dataset.user
    && before.querySelector(".who")?.textContent === item.querySelector(".who")?.textContent)
}

let atEnd = true                             // else somebody has gone back to read what was said earlier, and stays there
let seen = 0
const toEnd = () => scroll.scrollTop = scroll.scrollHeight

scroll.onscroll = () => {
  const near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80
  atEnd = near || (atEnd && scroll.scrollTop >= seen)        // a window that gets smaller leaves the end, and nobody has gone back
  seen = scroll.scrollTop
  if (atEnd) $("newest").hidden = true
}
$("newest").onclick = toEnd
const sizes = new ResizeObserver(() => atEnd && toEnd())
sizes.observe(scroll)
sizes.observe(log)

// Saying something: it is shown at once, and has its place when it comes back

let turn = Promise.resolve()                 // one after the other, in the order in which they were said

function tell(text) {
  const id = [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("")
  const said = {id, item: lineOf({id, user: me, name, text}), epoch: "", offset: 0}
  said.fate = make("span", "fate", "sending…")
  said.item.append(said.fate)
  said.item.classList.add("pending")
  unsent.set(id, said)
  shown.set(id, said.item)
  place(said.item, null)
  const body = JSON.stringify({id, name, text})
  turn = turn.then(() => post(said, body))
}

async function post(said, body) {
  for (let tries = 0; ; tries++) {           // until there is an answer: with the same id it is said only once
    try {
      const options = {method: "POST", headers: {"Content-Type": "application/json"}, body, signal: AbortSignal.timeout(10_000)}
      const answer = await fetch("say", options)
      if (answer.ok) return sent(said, await answer.json())
      if (answer.status < 500) return fail(said, (await answer.json()).error.message)
    } catch {}
    await pause(patience(tries))
  }
}

function sent(said, receipt) {
  Object.assign(said, receipt)
  said.fate.textContent = "sent"
  const passed = said.epoch === epoch && said.offset <= Number(position.split(":")[1])
  if (passed && unsent.has(said.id)) fix(said)               // it was in a gap
}

/** Give what this page has said its place, now that nothing more of it comes. */
function fix(said) {
  unsent.delete(said.id)
  settle(said)
  put(said.item)
}

function fail(said, reason) {
  unsent.delete(said.id)
  said.item.classList.replace("pending", "failed")
  said.fate.textContent = `Not sent: ${reason}`
}

function settle({item, fate}) {
  item.classList.remove("pending")
  fate.remove()
}

$("say").onsubmit = event => {
  event.preventDefault()
  const text = $("text").value.trim()
  $("text").value = ""
  $("text").focus()
  if (text) tell(text)
}

$("text").onkeydown = event => {             // Enter sends, Shift and Enter begin a line
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return
  event.preventDefault()
  $("say").requestSubmit()
}

// Who is there

let members = null                           // by connection; null: nobody has told yet
let meanwhile = null                         // what changes while the server is asked, applied behind its answer
const away = new Map()                       // people who were here before the connection was lost, and have not come back

async function ask() {
  const changes = meanwhile = []
  try {
    const found = new Map()
    let after = ""
    for (let page = 0; page < PAGES && after !== null; page++) {
      const answer = await fetch(`members${after}`, {signal: AbortSignal.timeout(5000)})
      if (!answer.ok) throw new Error(answer.status)
      const {members: some, next} = await answer.json()
      for (const member of some) found.set(member.client, member)
      after = next === null ? null : `?after=${encodeURIComponent(next)}`
    }
    if (meanwhile !== changes) return        // asked anew meanwhile
    missed(members ?? new Map(), found)
    members = found
    meanwhile = null
    changes.forEach(change)
    list()
  } catch {
    setTimeout(() => meanwhile === changes && ask(), 1000)
  }
}

/** After the connection was lost: who is not here now may be about to come back, as this page did. */
function missed(before, now) {
  for (const member of before.values()) {
    if (member.user === me || away.has(member.user) || isHere(member.user, now)) continue
    away.set(member.user, setTimeout(() => away.delete(member.user) && note(`${nameOf(member)} left`), AWAY))
  }
  for (const {user} of now.values()) backAgain(user)
}

function change({joined = [], left = [], moved = []}) {
  if (!members) return
  for (const member of joined) {
    if (!backAgain(member.user) && !isHere(member.user) && member.user !== me) note(`${nameOf(member)} joined`)
    members.set(member.client, member)
  }
  for (const {was, ...member} of moved) {    // a page that was loaded again, perhaps with another name
    const before = members.get(was)
    members.delete(was)
    members.set(member.client, member)
    if (before && nameOf(before) !== nameOf(member)) note(`${nameOf(before)} is ${nameOf(member)} now`)
  }
  for (const {client, reason} of left) {
    const member = members.get(client)
    members.delete(client)
    if (member && !isHere(member.user) && member.user !== me) note(`${nameOf(member)} ${reason === "removed" ? "was removed" : "left"}`)
  }
  list()
}

const isHere = (user, among = members) => [...among.values()].some(member => member.user === user)
const nameOf = member => String(member.info?.name ?? "Somebody")

function backAgain(user) {
  clearTimeout(away.get(user))
  return away.delete(user)
}

function list() {
  const people = new Map()                   // one may be here in several windows
  for (const member of members.values()) people.set(member.user, member)
  const sorted = [...people.values()].sort((a, b) => (b.user === me) - (a.user === me) || nameOf(a).localeCompare(nameOf(b), undefined, {numeric: true}))
  $("members").replaceChildren(...sorted.slice(0, NAMES).map(person), ...more(sorted.length - NAMES))
  $("count").textContent = `${sorted.length.toLocaleString("en")} here`
  $("people").hidden = false
}

function person(member) {
  const face = make("span", "face", [...nameOf(member)][0]?.toUpperCase() ?? "?")
  face.setAttribute("aria-hidden", "true")
  const item = make("li", "", face, make("span", "who", nameOf(member)))
  if (member.user === me) item.append(make("span", "you", "you"))
  colour(item, member.user)
  return item
}

const more = count => count > 0 ? [make("li", "more", `and ${count.toLocaleString("en")} more`)] : []

// The name, and the slow line

function enter() {
  $("enter").returnValue = ""
  $("new-name").value = name
  $("enter").showModal()
}

$("enter").oncancel = event => { if (!name) event.preventDefault() }
$("enter").onclose = () => {
  const chosen = $("enter").returnValue && $("new-name").value.trim().replace(/\s+/g, " ")
  if (!chosen) return name || enter()
  if (chosen === name && socket) return
  localStorage.setItem("name", name = chosen)
  begin()
}
$("name").onclick = enter

function begin() {
  $("name").textContent = name
  $("text").focus()
  connect()                                  // the others are told the name with the connection
}

$("slow").checked = false                    // browsers remember what was checked
$("slow").onchange = connect
$("burst").onclick = () => fetch("robot", {method: "POST"}).catch(() => {})      // if it is not heard, there are no things

const wide = matchMedia("(min-width: 48rem)")
const unfold = () => $("people").open = $("line").open = wide.matches
wide.onchange = unfold
unfold()
name ? begin() : enter()
