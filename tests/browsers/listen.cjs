// Listens with npm's eventsource to the address it is given; prints what happens, one JSON object a line.
const {EventSource} = require("eventsource")

const source = new EventSource(process.argv[2])
const say = object => console.log(JSON.stringify(object))

source.addEventListener("open", () => say({state: "live"}))
source.addEventListener("error", () => say({state: source.readyState === EventSource.CLOSED ? "closed" : "reconnecting"}))
for (const name of ["join", "gap", "message"])
  source.addEventListener(name, ({data, lastEventId}) => say({name, data, id: lastEventId}))
