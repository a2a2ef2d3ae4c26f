# recipe
# config/initializers/encrypted_text.rb
ActiveSupport.on_load(:active_record) do
  require "active_record/connection_adapters/postgresql_adapter"
  ActiveRecord::ConnectionAdapters::PostgreSQLAdapter.prepend(Module.new do
    def initialize_type_map(map = type_map)
      map.register_type "encrypted_text", ActiveRecord::ConnectionAdapters::PostgreSQL::OID::SpecializedString.new(:encrypted_text)
      super
    end
  end)
  ActiveRecord::Base.schema_format = :sql
  ActiveRecord::Tasks::DatabaseTasks.structure_dump_flags = ["--no-comments", "--exclude-table=prism_crypt.carried_keys"]
end
# end of recipe
