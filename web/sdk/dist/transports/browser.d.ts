import { type Transport } from '../transport';
/** The WebSocket of browsers, and of Node from 22. Pass another class with the same face for older Nodes. */
export declare function browserTransport(socketClass?: typeof WebSocket): Transport;
