# recipe
class CreateCustomers < ActiveRecord::Migration[6.1]
  def change
    create_table :customers do |t|
      t.text :label
      t.column :email, "encrypted_text(email,searchable)", null: false, index: { unique: true }
      t.integer :visits
      t.column :tags, "encrypted_text", array: true
    end
  end
end
# end of recipe
