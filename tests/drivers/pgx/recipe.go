// What docs/recipes-clients.md says of pgx.
package main

import (
	"context"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

// recipe
const migration = `CREATE TABLE customers (
	id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	label text NOT NULL,
	email encrypted_text(email,searchable) NOT NULL UNIQUE,
	visits int NOT NULL DEFAULT 1,
	tags encrypted_text[] NOT NULL DEFAULT '{}')`

type Customer struct {
	Label, Email string
	Visits       int
	Tags         []string
}

// end of recipe

// recipe
func add(ctx context.Context, pool *pgxpool.Pool, customers []Customer) error {
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"customers"}, []string{"label", "email", "visits", "tags"},
		pgx.CopyFromSlice(len(customers), func(i int) ([]interface{}, error) {
			c := customers[i]
			return []interface{}{c.Label, c.Email, c.Visits, c.Tags}, nil
		}))
	return err
}

func visit(ctx context.Context, pool *pgxpool.Pool, label, email string) (visits int, err error) {
	err = pool.QueryRow(ctx, `INSERT INTO customers (label, email) VALUES ($1, $2)
		ON CONFLICT (email) DO UPDATE SET visits = customers.visits + 1 RETURNING visits`, label, email).Scan(&visits)
	return visits, err
}

// find takes a condition such as "email = $1", "email = ANY ($1)" or "tags @> $1".
func find(ctx context.Context, pool *pgxpool.Pool, condition string, args ...interface{}) ([]Customer, error) {
	var found []Customer
	query := "SELECT label, email, visits, tags FROM customers WHERE " + condition + " ORDER BY label"
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Customer
		if err := rows.Scan(&c.Label, &c.Email, &c.Visits, &c.Tags); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, rows.Err()
}

// end of recipe
