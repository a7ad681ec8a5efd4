// A Durable Object's storage over SQLite in a file, with the properties of the platform's that Python code meets:
// numbers are bound as REAL, booleans as text, integers that a double cannot hold are refused, blobs come as ArrayBuffer,
// a transaction is a callback, statements like BEGIN are refused, and the alarm is part of what a transaction rolls back.
import { DatabaseSync } from "node:sqlite";

const MAX_PARAMETERS = 100;
const MAX_ROW = 2 * 1024 * 1024;
const BLANK = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*$/;
const REFUSED = /^\s*(BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|VACUUM)\b/i;

export class DurableObjectStorage {
  #database;
  #alarmChanged;
  #depth = 0;
  #changed = false;

  // `alarmChanged` is told the time (or null) whenever what is committed has another alarm.
  constructor(file, alarmChanged) {
    this.#database = new DatabaseSync(file);
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    this.#database.exec("CREATE TABLE IF NOT EXISTS _harness (key TEXT PRIMARY KEY, value)");
    this.#alarmChanged = alarmChanged;
    this.sql = new SqlStorage(this.#database);
  }

  transactionSync(callback) {
    const name = `t${this.#depth++}`;
    this.#database.exec(`SAVEPOINT ${name}`);
    try {
      const result = callback();
      this.#database.exec(`RELEASE ${name}`);
      return result;
    } catch (error) {
      this.#database.exec(`ROLLBACK TO ${name}; RELEASE ${name}`);
      throw error;
    } finally {
      this.#depth--;
      this.#tell();
    }
  }

  async getAlarm() {
    return this.alarm;
  }

  async setAlarm(time) {
    const at = time instanceof Date ? time.getTime() : Number(time);
    if (!(at > 0)) throw new TypeError("setAlarm() needs a time after the epoch");
    this.#put("alarm", Math.max(at, Date.now()));
  }

  async deleteAlarm() {
    this.#put("alarm", null);
  }

  // For the harness: not part of the platform's interface.
  get alarm() {
    const row = this.#database.prepare("SELECT value FROM _harness WHERE key = 'alarm'").get();
    return row?.value ?? null;
  }

  takeAlarm() {
    this.#database.prepare("DELETE FROM _harness WHERE key = 'alarm'").run();
  }

  close() {
    this.#database.close();
  }

  #put(key, value) {
    this.#database.prepare("INSERT OR REPLACE INTO _harness VALUES (?, ?)").run(key, value);
    this.#changed = true;
    this.#tell();
  }

  #tell() {
    if (this.#depth === 0 && this.#changed) {
      this.#changed = false;
      this.#alarmChanged(this.alarm);
    }
  }
}

class SqlStorage {
  #database;

  constructor(database) {
    this.#database = database;
  }

  exec(query, ...bindings) {
    if (bindings.length > MAX_PARAMETERS) throw new Error("too many SQL variables: SQLITE_ERROR");
    let cursor = new SqlStorageCursor([], []);
    for (let rest = query; !BLANK.test(rest); ) {
      if (REFUSED.test(rest)) throw new Error("use state.storage.transactionSync() instead: not authorized: SQLITE_AUTH");
      const prepared = this.#guarded(() => this.#database.prepare(rest));
      // SQLite keeps as the source of a statement what it has read of the text.
      rest = rest.slice(prepared.sourceSQL.length);
      // Bindings are those of the last statement.
      cursor = this.#guarded(() => this.#run(prepared, BLANK.test(rest) ? bindings : []));
    }
    return cursor;
  }

  get databaseSize() {
    const { page_count: pages } = this.#database.prepare("PRAGMA page_count").get();
    const { page_size: size } = this.#database.prepare("PRAGMA page_size").get();
    return pages * size;
  }

  #run(prepared, bindings) {
    prepared.setReturnArrays(true);
    prepared.setReadBigInts(true); // node:sqlite refuses to round what a double cannot hold; the platform rounds
    const columns = prepared.columns().map((column) => column.name);
    const values = bindings.map(bound);
    if (columns.length) return new SqlStorageCursor(columns, prepared.all(...values).map((row) => row.map(read)));
    return new SqlStorageCursor([], [], Number(prepared.run(...values).changes));
  }

  #guarded(work) {
    try {
      return work();
    } catch (error) {
      if (error.code !== "ERR_SQLITE_ERROR") throw error;
      throw new Error(`${error.message}: ${code(error.errcode)}`);
    }
  }
}

class SqlStorageCursor {
  constructor(columnNames, rows, written = 0) {
    this.columnNames = columnNames;
    this.rowsRead = rows.length;
    this.rowsWritten = written;
    this.rows = rows;
  }

  toArray() {
    return this.rows.map((row) => Object.fromEntries(this.columnNames.map((name, index) => [name, row[index]])));
  }

  one() {
    if (this.rows.length !== 1) throw new Error(`Expected exactly one result from SQL query, but got ${this.rows.length}`);
    return this.toArray()[0];
  }

  raw() {
    const rows = this.rows[Symbol.iterator]();
    return Object.assign(rows, { toArray: () => [...rows] });
  }

  next() {
    return (this.iterator ??= this.toArray()[Symbol.iterator]()).next();
  }

  [Symbol.iterator]() {
    return this.toArray()[Symbol.iterator]();
  }
}

function bound(value) {
  if (typeof value === "bigint") throw new TypeError("a BigInt cannot be bound: SQL parameters are numbers, text, blobs or null");
  if (typeof value === "boolean") return String(value);
  if (value === undefined) return null;
  if (value instanceof ArrayBuffer) value = new Uint8Array(value);
  const size = typeof value === "string" ? Buffer.byteLength(value) : (value?.byteLength ?? 0);
  if (size > MAX_ROW) throw new Error("string or blob too big: SQLITE_TOOBIG");
  return value;
}

function read(value) {
  if (typeof value === "bigint") return Number(value);
  return value instanceof Uint8Array ? value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength) : value;
}

function code(number) {
  return { 19: "SQLITE_CONSTRAINT", 18: "SQLITE_TOOBIG" }[number & 255] ?? "SQLITE_ERROR";
}
