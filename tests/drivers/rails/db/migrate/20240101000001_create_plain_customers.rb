class CreatePlainCustomers < ActiveRecord::Migration[6.1]
  def change
    create_table :plain_customers do |t|
      t.text :label
      t.column :email, "text", null: false, index: { unique: true }
      t.integer :visits
      t.column :tags, "text", array: true
    end
  end
end
