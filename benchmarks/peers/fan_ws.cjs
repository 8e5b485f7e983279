// The fan-out with node's `ws`: the loop over `clients` that its own documentation shows.
"use strict";

const http = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    for (const client of subscribers.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(body, { binary: false });
    }
    response.end("ok");
  });
});
const subscribers = new WebSocketServer({ server, perMessageDeflate: false });

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
