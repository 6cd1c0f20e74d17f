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
  /** Replaces what is there if its ETag is still the one given. Answers the new ETag, or `changed`. */
  replace(entity: Entity, etag: string): Promise<{ etag: string } | 'changed'>;
  /** Answers whether there was one to delete; `changed` where the ETag is another. Without an ETag: any. */
  remove(partitionKey: string, rowKey: string, etag?: string): Promise<boolean | 'changed'>;
}
