// Asks of pgx what tests/drivers/orm_checks.py says, stage by stage, through one pool.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

type answer map[string]interface{}

// What runs over several stages.
type program struct {
	ctx   context.Context
	pool  *pgxpool.Pool
	texts map[string]string
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p *program) find(condition string, args ...interface{}) []Customer {
	found, err := find(p.ctx, p.pool, condition, args...)
	must(err)
	return found
}

func (p *program) labels(condition string, args ...interface{}) []string {
	labels := []string{}
	for _, c := range p.find(condition, args...) {
		labels = append(labels, c.Label)
	}
	return labels
}

// Labels of those whose e-mail is one of two.
func (p *program) listed() []string {
	return p.labels("email = ANY ($1)", []string{p.texts["phone"], p.texts["unicode"]})
}

// Two look-ups in one round trip, with a statement that was prepared by name.
func (p *program) batched() []string {
	labels := []string{}
	must(p.pool.AcquireFunc(p.ctx, func(conn *pgxpool.Conn) error {
		if _, err := conn.Conn().Prepare(p.ctx, "label_of", "SELECT label FROM customers WHERE email = $1"); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		for _, name := range []string{"unicode", "email"} {
			batch.Queue("label_of", p.texts[name])
		}
		results := conn.SendBatch(p.ctx, batch)
		defer results.Close()
		for range []int{1, 2} {
			var label string
			if err := results.QueryRow().Scan(&label); err != nil {
				return err
			}
			labels = append(labels, label)
		}
		return nil
	}))
	return labels
}

// All that the error of a second customer with this e-mail says.
func (p *program) refusal(table string) pgconn.PgError {
	_, err := p.pool.Exec(p.ctx, "INSERT INTO "+table+" (label, email) VALUES ($1, $2)", "again", p.texts["email"])
	var told *pgconn.PgError
	if !errors.As(err, &told) {
		must(fmt.Errorf("%s took it: %v", table, err))
	}
	return *told
}

// Whether both say the same of the same e-mail, which ours withholds.
func (p *program) duplicate() bool {
	_, err := p.pool.Exec(p.ctx, "INSERT INTO plain_customers (label, email) VALUES ($1, $2)", "first", p.texts["email"])
	must(err)
	ours, twin := p.refusal("customers"), p.refusal("plain_customers")
	for _, said := range []*string{&twin.Message, &twin.TableName, &twin.ConstraintName} {
		*said = strings.Replace(*said, "plain_customers", "customers", -1)
	}
	twin.Detail = strings.Replace(twin.Detail, p.texts["email"], "withheld", -1)
	return ours == twin && ours.Code == "23505"
}

func (p *program) first() answer {
	for _, statement := range []string{migration, strings.NewReplacer("customers", "plain_customers", "encrypted_text[]", "text[]",
		"encrypted_text(email,searchable)", "text").Replace(migration)} {
		_, err := p.pool.Exec(p.ctx, statement)
		must(err)
	}
	email := p.texts["email"]
	_, err := p.pool.Exec(p.ctx, "INSERT INTO customers (label, email, visits) VALUES ($1, $2, $3)", "first", email, 1)
	must(err)
	inserted := p.find("label = $1", "first")[0].Email
	must(add(p.ctx, p.pool, []Customer{
		{"second", p.texts["phone"], 1, []string{}}, {"third", p.texts["name"], 1, []string{email}}, {"fourth", p.texts["unicode"], 1, []string{}}}))
	visits, err := visit(p.ctx, p.pool, "again", email)
	must(err)
	_, err = p.pool.Exec(p.ctx, "UPDATE customers SET tags = $1 WHERE label = $2", []string{p.texts["tax id"], p.texts["name"]}, "second")
	must(err)
	return answer{
		"inserted":    inserted,
		"found":       p.labels("email = $1", email),
		"absent":      p.labels("email = $1", "absent"),
		"listed":      p.listed(),
		"upserted":    visits,
		"tags":        p.find("label = $1", "second")[0].Tags,
		"tagged":      p.labels("tags @> $1", []string{p.texts["tax id"]}),
		"duplicate":   p.duplicate(),
		"agrees":      "the tool can't compare",
		"copied tags": p.find("label = $1", "third")[0].Tags,
		"batched":     p.batched(),
	}
}

// What is asked once keys were replaced, and again once the sessions were ended.
func (p *program) again(stage, email string) answer {
	_, err := p.pool.Exec(p.ctx, "INSERT INTO customers (label, email) VALUES ($1, $2)", stage, email)
	if err != nil && stage == "reconnected" {
		// The pool learns from an attempt that the server ended its session.
		_, err = p.pool.Exec(p.ctx, "INSERT INTO customers (label, email) VALUES ($1, $2)", stage, email)
	}
	must(err)
	return answer{"found": p.labels("email = $1", p.texts["email"]), "listed": p.listed(), "tags": p.find("label = $1", "second")[0].Tags,
		"added": p.labels("email = $1", email)}
}

func main() {
	var given struct {
		Connection struct {
			Host, User, Database string
			Port                 int
		}
		Texts map[string]string
	}
	lines, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	must(lines.Decode(&given))
	at := given.Connection
	ctx := context.Background()
	pool, err := pgxpool.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s database=%s", at.Host, at.Port, at.User, at.Database))
	must(err)
	p := &program{ctx, pool, given.Texts}
	must(answers.Encode(p.first()))
	for lines.More() {
		var next struct{ Stage, Email string }
		must(lines.Decode(&next))
		must(answers.Encode(p.again(next.Stage, next.Email)))
	}
}
