# Active Record, its migrations and its tasks outside of Rails, as tests/drivers/orm_checks.py asks for them.

require "active_record"
require "erb"
require "json"
require "stringio"
require "tmpdir"
require "yaml"

# What the tasks run, psql for one, prints something too.
ANSWERS = $stdout.dup.tap { |out| out.sync = true }
$stdout.reopen(File::NULL)
# Active Record warns of types that it doesn't know.
WARNINGS = []
def Warning.warn(message, **)
  WARNINGS << message
end

# What Rails does with the files of an application.
def boot(connection)
  ENV["VERBOSE"] = "false"
  connection.each { |name, value| ENV["SHOP_#{name.upcase}"] = value.to_s }
  require_relative "config/initializers/encrypted_text"
  configurations = YAML.safe_load(ERB.new(File.read("#{__dir__}/config/database.yml")).result, aliases: true)
  ActiveRecord::Base.configurations = configurations
  Tasks.database_configuration = configurations
  Tasks.root = __dir__
  Tasks.env = "development"
  Tasks.migrations_paths = ActiveRecord::Migrator.migrations_paths = ["#{__dir__}/db/migrate"]
  ActiveRecord::Base.establish_connection(:development)
end

Tasks = ActiveRecord::Tasks::DatabaseTasks

class PlainCustomer < ActiveRecord::Base
end

class Subscriber < ActiveRecord::Base
end

# recipe
class Customer < ActiveRecord::Base
end
# end of recipe

def save(label, email)
  Customer.create!(label: label, email: email, visits: 1)
end

def found(email)
  Customer.where(email: email).order(:label).pluck(:label)
end

def again
  customer = Customer.find_by(email: T["email"])
  { found: [customer.label], listed: found([T["phone"], T["unicode"]]), tags: Customer.find_by(label: "second").tags }
end

def first_stage
  steps = converted
  inserted = save("first", T["email"]).reload.email
  Customer.insert_all!([["second", "phone"], ["third", "name"], ["fourth", "unicode"]].map { |label, name| { label: label, email: T[name], visits: 1 } })
  Customer.find_by!(label: "second").update!(tags: [T["tax id"], T["name"]])
  { inserted: inserted, **again, absent: found("absent"), upserted: upserted(T["email"]), **tagged(T["tax id"]),
    changed: changed, duplicate: duplicate(Customer) == duplicate(PlainCustomer), agrees: agrees?, schema_rb: schema_rb, converted: steps, warnings: WARNINGS }
end

# Types of a column, and who is found by it, as it was made, encrypted, text again and encrypted again.
def converted
  migrations = ActiveRecord::Base.connection.migration_context
  look = lambda do
    Subscriber.reset_column_information
    [Subscriber.columns_hash["email"].sql_type, Subscriber.columns_hash["email"].null, Subscriber.where(email: T["phone"]).pluck(:email)]
  end
  migrations.up(20240101000002)
  Subscriber.create!(email: T["phone"])
  steps = [look.call]
  Tasks.migrate
  steps << look.call
  migrations.rollback
  steps << look.call
  Tasks.migrate
  steps << look.call
end

def upserted(email)
  # recipe
  customer = Customer.find_by!(email: email)
  Customer.upsert({ label: customer.label, email: email, visits: customer.visits + 1 }, unique_by: :email)
  # end of recipe
  customer.reload.visits
end

def tagged(tag)
  # recipe
  tagged = Customer.where("tags @> ARRAY[?]", [tag]).pluck(:label)
  # end of recipe
  bound = Customer.predicate_builder.build_bind_attribute(:tags, [tag])
  { tagged: tagged, tagged_by_parameter: Customer.where(Customer.arel_table[:tags].contains(bound)).pluck(:label) }
end

# What Active Record finds to write after a value changed in place, and after it was set to what it was.
def changed
  customer = Customer.find_by!(label: "second")
  customer.tags << "another"
  customer.email = customer.email.dup
  customer.changed
end

# Everything that the error says, with the twin's names and values as ours.
def duplicate(model)
  model.create!(label: "first", email: T["email"], visits: 1) if model == PlainCustomer
  model.create!(label: "another", email: T["email"], visits: 1)
  nil
rescue ActiveRecord::RecordNotUnique => error
  fields = PG.constants.grep(/\APG_DIAG_/).to_h { |name| [name, error.cause.result.error_field(PG.const_get(name))] }
  [error.class.name, error.cause.class.name, error.message, *fields].map { |said|
    said.to_s.gsub("plain_customers", "customers").gsub(T["email"], "(withheld)").gsub("((withheld))", "(withheld)")
  }
end

# Whether no migration is pending, and the test database, loaded from structure.sql, has the columns, indexes and structure that migrations made.
def agrees?
  ActiveRecord::Migration.check_pending!
  made = database
  test = ActiveRecord::Base.configurations.configs_for(env_name: "test", name: "primary")
  Tasks.reconstruct_from_schema(test)
  current = Tasks.schema_up_to_date?(test)
  loaded = database
  used = save("another", T["email"]).reload.email == T["email"] && found(T["email"]) == ["another"]
  Tasks.drop(test)
  ActiveRecord::Base.establish_connection(:development)
  current && used && made == loaded && made[:structure].include?("email public.encrypted_text(email,searchable) NOT NULL")
end

# Of the database that Active Record is connected with; pg_dump puts a random word into each dump.
def database
  Tasks.dump_schema(ActiveRecord::Base.connection_db_config)
  connection = ActiveRecord::Base.connection
  columns = connection.columns("customers").map { |column| [column.name, column.sql_type, column.null, column.array?] }
  indexes = connection.indexes("customers").map { |index| [index.name, index.columns, index.unique, index.using, index.opclasses] }
  { columns: columns, indexes: indexes, structure: File.read(Tasks.dump_filename("primary")).gsub(/^\\(un)?restrict .*/, "") }
end

# What schema.rb, which can't describe the type, has of both tables.
def schema_rb
  dumped = ActiveRecord::SchemaDumper.dump(ActiveRecord::Base.connection, StringIO.new).string
  dumped.scan(/^# Could not dump table.*|^ *create_table "\w+"/).map(&:strip)
end

given = JSON.parse($stdin.gets)
T = given["texts"]
boot(given["connection"])
Dir.mktmpdir do |directory|
  Tasks.db_dir = directory
  ANSWERS.puts JSON.generate(first_stage)
end
while (line = $stdin.gets)
  # As Rails does after a request; the next one checks its connection.
  ActiveRecord::Base.clear_active_connections!
  stage = JSON.parse(line)
  save(stage["stage"], stage["email"])
  ANSWERS.puts JSON.generate(again.merge(added: found(stage["email"])))
end
