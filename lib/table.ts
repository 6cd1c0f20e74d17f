/** A value of an entity's property. */
export type TableValue = string | number | boolean | Date;

/** An entity of a table: two keys and at most 252 properties, of at most 64 KiB each and 1 MiB together. */
export interface Entity {
  partitionKey: string;
  rowKey: string;
  [property: string]: TableValue | undefined;
}

/** One table of conditional writes. Every method throws a `GatepostError` where storage fails. */
export interface Table {
  get(partitionKey: string, rowKey: string): Promise<{ entity: Entity; etag: string } | undefined>;
  /** Answers the new ETag, or `exists`. Where the connection was cut it may have been written all the same. */
  insert(entity: Entity): Promise<{ etag: string } | 'exists'>;
  /** Adds an entity whose key is the writer's own, such as a random id: one that is there already is its own lost attempt. */
  append(entity: Entity): Promise<void>;
  /** Replaces what is there if its ETag is still the one given. Answers the new ETag, or `changed`. */
  replace(entity: Entity, etag: string): Promise<{ etag: string } | 'changed'>;
  /** Answers whether there was one to delete; `changed` where the ETag is another. Without an ETag: any. */
  remove(partitionKey: string, rowKey: string, etag?: string): Promise<boolean | 'changed'>;
  /** The first entities of a partition with row keys between two, both left out, in their order. Of a table not made yet: none. */
  range(partitionKey: string, after: string, before: string, limit: number): Promise<Entity[]>;
  /** The keys of some entities whose property, a date, lies before another. Looks through the whole table. */
  before(property: string, date: Date, limit: number): Promise<Pick<Entity, 'partitionKey' | 'rowKey'>[]>;
}

/** The tables of the app's account. */
export interface Tables {
  /** One of them: made when the first entity is written to it. */
  (name: string): Table;
  /** The names of those that begin so. */
  names(prefix: string): Promise<string[]>;
  /** Deletes one with all that is in it. One that is gone already is no fault. */
  drop(name: string): Promise<void>;
}

/** Deletes that go on at one time. */
const deletesAtOnce = 8;

/** Deletes entities, whatever they hold by now. Answers how many were still there. */
export async function removeAll(
  table: Table,
  keys: readonly Pick<Entity, 'partitionKey' | 'rowKey'>[],
): Promise<number> {
  let removed = 0;
  for (let at = 0; at < keys.length; at += deletesAtOnce) {
    const some = keys.slice(at, at + deletesAtOnce);
    const done = await Promise.all(some.map(({ partitionKey, rowKey }) => table.remove(partitionKey, rowKey)));
    removed += done.filter((each) => each === true).length;
  }
  return removed;
}
